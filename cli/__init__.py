# PYTHON_ARGCOMPLETE_OK: shells that complete for every program look for this.
"""The command line: ``prunus prune``, ``groups``, ``why``, ``report``, ``demo`` and ``rules``.

Torch is imported by the commands that need it, which takes seconds: help, completion and an interrupt do not
wait for it.
"""

from .main import main
from .parser import parser

__all__ = ["main", "parser"]
