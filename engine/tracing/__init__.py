"""A forward becomes a trace: the calls, their values, and where every number comes from."""

from .alone import alone, inner
from .arguments import Key, found_in, paired, rebuilt
from .collector import paused
from .elements import KnownElements, levels
from .elsewhere import handed_notes
from .flat import Flattening
from .forwards import call_arguments, calls_of
from .origin import Origin
from .size_int import Attribute, Const, Dim, Expr, Op, SizeInt, attribute_name, evaluate, expr_of, leaves
from .trace import trace
from .values import Call, Condition, Source, Trace, Value, is_library_file, locate_error, values_in

__all__ = [
    "Attribute",
    "Call",
    "Condition",
    "Const",
    "Dim",
    "Expr",
    "Flattening",
    "Key",
    "KnownElements",
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
    "paired",
    "paused",
    "rebuilt",
    "trace",
    "values_in",
]
