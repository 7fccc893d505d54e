"""How the API page reads the package: names that `prunus.engine` hands on, and parameters of docstrings."""

from __future__ import annotations

import re
from typing import Any

import griffe

PARAMETER = re.compile(r"^(\**\w+(?:, \**\w+)*) : (.*)$", re.MULTILINE)


class PublicNames(griffe.Extension):
    """Docstrings say what a parameter is, the signature its type; a function hides the file of its name."""

    def on_instance(self, *, obj: griffe.Object | griffe.Alias, **_: Any) -> None:
        if obj.docstring is not None:
            text = PARAMETER.sub(r"\1\n    \2", obj.docstring.value)
            obj.docstring.value = text.replace("::\n\n    ", "\n\n    ")

    def on_package(self, *, pkg: griffe.Module, **_: Any) -> None:
        if "engine" not in pkg.members:
            return
        engine = pkg.members["engine"]
        for name in engine.exports or ():
            handed_on = engine.members[str(name)]
            if handed_on.is_module:
                engine.members[str(name)] = griffe.Alias(
                    str(name), handed_on.members[str(name)], parent=engine
                )
