"""Loading rule files, laying them over one another, and finding the rule of a callable."""

from __future__ import annotations

import functools
import importlib
import sys
from collections.abc import Callable, Iterable
from os import PathLike
from pathlib import Path
from typing import Any, Union

import torch
from attrs import frozen

from ..errors import RuleError, at_most, throw
from ..grammar import parse
from ..grammar.ast import ModuleRule, Rule, RuleFile
from ..grammar.reading import identity, read
from ..grammar.validate import Fail
from .files import add_file, add_used
from .layers import Layer, Tables, lay

Rules = Union[str, PathLike, "RuleSet", Iterable[Union[str, PathLike, "RuleSet"]]]

MOST = 100  # mistakes that are told of one text

_SHIPPED = Path(__file__).resolve().parent


@frozen(eq=False)
class RuleSet:
    """Rules, and the callables for which they speak.

    ``rules`` holds the last rule of each name; ``opaque`` the module and autograd function classes that
    are targets themselves, so that a call of one is a single operation.
    """

    layers: tuple[Layer, ...]
    rules: dict[str, Rule]
    opaque: frozenset[type]
    _tables: Tables

    def __reduce__(self) -> Any:
        return _of_layers, (self.layers,)

    def rule_for(self, target: Callable[..., Any]) -> Rule | None:
        """The rule that speaks for ``target``, or ``None``.

        Overloads and packets of ATen operators fall back to the torch function of the same name.
        """
        return self._tables.rule_for(target)

    def targets_of(self, rule: Rule) -> dict[str, Callable[..., Any]]:
        """The callables for which `rule` is written and still speaks, by the names they are given there."""
        written = self._tables.written
        return {
            written[target].name: target for target, known in self._tables.explicit.items() if known is rule
        }

    @property
    def size_names(self) -> frozenset[str]:
        """The names that module rules know as sizes of parameters: ``in_features``, ``groups``."""
        entries = [entry for rule in self._tables.modules.values() for entry in rule.attributes]
        return frozenset(name for one in entries for name in (one.attribute, one.times) if name is not None)

    def bookkeeping(self, cls: type) -> ModuleRule | None:
        """The ``module`` rule of the class or of the nearest class it inherits from."""
        known = self._tables.modules
        return next((known[base] for base in cls.__mro__ if base in known), None)


def load(rules: Rules = "default") -> RuleSet:
    """Load rules and lay them over one another; later ones win.

    The modules that a file names as targets are imported, and so run: load only files that you trust.

    Parameters
    ----------
    rules : ``"default"`` (all rules that prunus ships), a path, a ``RuleSet``, or several of these.

    Raises
    ------
    RuleSyntaxError, RuleError
        With file, line, caret and help.

    Examples
    --------
    >>> load("default").rule_for(len) is None
    True
    """
    layers: dict[str, Layer] = {}
    sources = rules if isinstance(rules, (list, tuple)) else [rules]
    for source in sources:
        if not isinstance(source, (str, PathLike, RuleSet)):
            raise RuleError(
                f"rules= takes 'default', paths, or a list of these, not a {type(source).__name__}",
                help="example inputs are given as example_inputs=",
            )
        if isinstance(source, RuleSet):
            layers.update({layer.name: layer for layer in source.layers if layer.name not in layers})
        elif source == "default":
            layers.setdefault("default", _default())
        else:
            add_file(Path(source), str(source), layers, _default)
    return _build(tuple(layers.values()), _present(layers.values()))


def draft(text: str, path: str | PathLike, fail: Fail = throw) -> tuple[RuleFile, RuleSet]:
    """The rules of a text as if it stood in the file ``path``, laid over the shipped ones and those it uses.

    Each `RuleError` is given to ``fail``; if that returns, what is wrong is left out. After the first
    hundred the next one is raised: to look for what might be meant takes its time.

    Raises
    ------
    RuleSyntaxError
        Of the text; and what is wrong with the files that it uses.
    """
    path = Path(path)
    fail = at_most(MOST, fail)
    file = parse(text, str(path), fail)
    if Path(identity(path)).parent == _SHIPPED:
        others = (other for other in _default().files if other.path != path.name)
        below: tuple[Layer, ...] = ()
        layer = Layer("default", (*others, file), shipped=True)
    else:
        found = {"default": _default()}
        add_used(path, file, found, _default, fail)
        *below_, layer = found.values()
        below = tuple(below_)
    layers = (*below, layer)
    present = _present(layers)
    tables = _build(below, present)._tables.copy()
    lay(layer, tables, present, fail)
    return file, _rule_set(layers, tables)


@functools.lru_cache(maxsize=1)
def _default() -> Layer:
    """All shipped files as one layer, parsed once per process."""
    files = (parse(read(path, path.name), path.name) for path in sorted(_SHIPPED.glob("*.rules")))
    return Layer("default", tuple(files), shipped=True)


def _present(layers: Iterable[Layer]) -> tuple[str, ...]:
    """The imported ones of the packages that shipped targets name."""
    return tuple(package for package in _packages(layers) if package in sys.modules)


def _packages(layers: Iterable[Layer]) -> list[str]:
    """The packages that shipped targets name, `torchvision` in `torch.ops.torchvision.nms` too."""
    names = (target.name.split(".") for layer in layers if layer.shipped for target in layer.targets())
    return sorted({parts[2] if parts[:2] == ["torch", "ops"] else parts[0] for parts in names})


def import_packages() -> dict[str, str]:
    """Import the packages that shipped targets name; for each that is not there or cannot be, the reason."""
    absent: dict[str, str] = {}
    for package in _packages([_default()]):
        try:
            importlib.import_module(package)
        except (Exception, SystemExit) as error:  # a package's own code: a wrong build may raise anything
            is_missing = isinstance(error, ModuleNotFoundError) and error.name == package
            reason = "it is not installed" if is_missing else f"{type(error).__name__}: {error}"
            absent[package] = reason.splitlines()[0]
    return absent


@functools.lru_cache(maxsize=8)
def _build(layers: tuple[Layer, ...], present: tuple[str, ...]) -> RuleSet:
    """Lay the layers over one another. Shipped targets of packages not yet imported are left out."""
    tables = Tables()
    for layer in layers:
        lay(layer, tables, present)
    return _rule_set(layers, tables)


def _of_layers(layers: tuple[Layer, ...]) -> RuleSet:
    return _build(layers, _present(layers))


def _rule_set(layers: tuple[Layer, ...], tables: Tables) -> RuleSet:
    opaque = frozenset(
        target
        for target in tables.explicit
        if isinstance(target, type) and issubclass(target, (torch.nn.Module, torch.autograd.Function))
    )
    return RuleSet(layers, dict(tables.rules), opaque, tables)
