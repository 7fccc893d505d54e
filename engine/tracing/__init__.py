"""A forward becomes a trace: the calls, their values, and where every number comes from."""

from .alone import alone, inner
from .arguments import Key, found_in, mapped, paired
from .constants import version
from .elements import KnownElements, levels
from .elsewhere import handed_notes
from .expressions import ARITHMETIC, Attribute, Const, Dim, Expr, Op, attribute_name, evaluate, leaves
from .flat import Flattening
from .forwards import call_arguments, calls_of
from .origin import Origin
from .recorder import Observe
from .size_int import SizeInt, expr_of
from .source import Source, is_library_file, locate_error
from .trace import trace
from .values import Call, Condition, Trace, Value, values_in

__all__ = [
    "ARITHMETIC",
    "Attribute",
    "Call",
    "Condition",
    "Const",
    "Dim",
    "Expr",
    "Flattening",
    "Key",
    "KnownElements",
    "Observe",
    "Op",
    "Origin",
    "SizeInt",
    "Source",
    "Trace",
    "Value",
    "alone",
    "attribute_name",
    "call_arguments",
    "calls_of",
    "evaluate",
    "expr_of",
    "found_in",
    "handed_notes",
    "inner",
    "is_library_file",
    "leaves",
    "levels",
    "locate_error",
    "mapped",
    "paired",
    "trace",
    "values_in",
    "version",
]
