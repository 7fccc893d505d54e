"""Rule files as layers, on top of those that they use."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from attrs import define, field

from ..errors import RuleError, throw
from ..grammar import parse
from ..grammar.ast import RuleFile, Use
from ..grammar.reading import identity, read
from ..grammar.validate import Fail
from .layers import Layer


@define
class _Open:
    """A file whose uses are being followed."""

    path: Path
    name: str
    file: RuleFile
    uses: Iterator[Use] = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.uses = iter([one for one in self.file.statements if isinstance(one, Use)])


def add_file(path: Path, shown: str, layers: dict[str, Layer], default: Callable[[], Layer]) -> None:
    """Add a file to ``layers``, after those that it uses; ``shown`` is what errors call it."""
    if identity(path) not in layers:
        add_used(path, parse(read(path, shown), shown), layers, default)


def add_used(
    path: Path, file: RuleFile, layers: dict[str, Layer], default: Callable[[], Layer], fail: Fail = throw
) -> None:
    """Add to ``layers``, by name, the files that ``file`` at ``path`` builds on and itself, lowest first.

    Each file is read once, however many use it; a chain of them may be of any length. ``default`` gives the
    layer of the shipped rules. A `RuleError` about a use in ``file`` itself is given to ``fail``.
    """
    way = {identity(path): _Open(path, identity(path), file)}
    while way:
        top = next(reversed(way.values()))
        tell = fail if top.file is file else throw
        use = next(top.uses, None)
        if use is None:
            del way[top.name]
            layers[top.name] = Layer(top.name, (top.file,), shipped=False)
        elif use.name == "default":
            layers.setdefault("default", default())
        elif identity(top.path.parent / use.name) in way:
            tell(RuleError(f"'{use.name}' uses itself", use.span, "rule files may not go in circles"))
        elif identity(top.path.parent / use.name) not in layers:
            opened = _open(use, top.path.parent / use.name, tell)
            if opened is not None:
                way[opened.name] = opened


def _open(use: Use, path: Path, fail: Fail) -> _Open | None:
    """The file of a use; ``None`` if it cannot be read and ``fail`` returns."""
    try:
        text = read(path, use.name, use.span)
    except RuleError as error:
        fail(error)
        return None
    return _Open(path, identity(path), parse(text, str(path)))
