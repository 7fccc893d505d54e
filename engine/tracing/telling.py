"""An error of the user's own code, where prunus did not expect to run any, as one of prunus that names it."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from types import TracebackType
from typing import ParamSpec, TypeVar

from torch import nn

from ...adapters.contents import text_of
from ...errors import PrunusError, TraceError
from .source import is_library_file, locate_error

Given = ParamSpec("Given")
Result = TypeVar("Result")


def telling(function: Callable[Given, Result]) -> Callable[Given, Result]:
    """`function`, of which an error that a module's own code raises is a `TraceError`.

    What prunus asks a module it asks of torch's own dicts, but a class may answer that, too. An error in
    which no module's code has a part, be it of a criterion or of prunus, stays what it is.
    """

    @wraps(function)
    def run(*args: Given.args, **kwargs: Given.kwargs) -> Result:
        try:
            return function(*args, **kwargs)
        except PrunusError:
            raise
        except Exception as error:
            module, source = _module_in(error.__traceback__), locate_error(error.__traceback__)
            if module is None or source is None:
                raise
            what = f"{type(error).__name__}: {text_of(error, str)}"
            raise TraceError(
                f"{type(module).__name__} raised {what}\n  {source}: {source.text}\n"
                "prunus looks at the modules of a model: let them answer, or put plain ones in their place"
            ) from error

    return run


def _module_in(trace: TracebackType | None) -> nn.Module | None:
    """The innermost module whose code, not that of torch, an exception has passed through."""
    found = None
    while trace is not None:
        frame = trace.tb_frame
        if not is_library_file(frame.f_code.co_filename):
            of_module = [one for one in frame.f_locals.values() if isinstance(one, nn.Module)]
            found = of_module[0] if of_module else found
        trace = trace.tb_next
    return found
