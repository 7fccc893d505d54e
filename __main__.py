"""``python -m prunus`` is the command ``prunus``."""

import os
import sys

# For -m, Python looks into the current folder first, and would run a file of it that has the name of any
# module. The command looks there for nothing but what the user names.
if sys.path and sys.path[0] in ("", os.getcwd()) and not getattr(sys.flags, "safe_path", False):
    del sys.path[0]

from .cli import main

if __name__ == "__main__":
    sys.exit(main())
