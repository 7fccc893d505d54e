"""Puts the page together: the data as JSON, the scripts, the style and the libraries, all in one file."""

from __future__ import annotations

import html
import json
import re
from importlib.resources import files

from ..adapters.collector import paused
from ..engine import DependencyGraph, Plan
from ..files import PathLike, expect_writable, write_text
from .data import data_of

LIBRARIES = ("d3", "dagre")
SCRIPTS = ("groups", "layout", "graph", "table", "paths", "why", "apart", "lists", "asking", "page")


def page(
    graph: DependencyGraph, plan: Plan | None = None, *, title: str | None = None, inputs: str | None = None
) -> str:
    """The page as text: HTML that needs nothing but itself.

    Parameters
    ----------
    graph : the analysed model.
    plan : the sizes after it are shown too.
    title : the page's heading; the class of the model if not given.
    inputs : what the model was traced with, in words; the shapes of the example inputs if not given.
    """
    title = title or graph.trace.model_name
    with paused():
        data = data_of(graph, plan)
    parts = {
        "title": html.escape(title),
        "inputs": html.escape(inputs or shapes_of(graph)),
        "style": text_of("page.css"),
        "libraries": "\n".join(library(name) for name in LIBRARIES),
        "licences": "\n".join(f"{name}\n{text_of(f'vendor/{name}.LICENSE')}" for name in LIBRARIES),
        "data": escaped(data),
        "scripts": "\n".join(text_of(f"{name}.js") for name in SCRIPTS),
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], text_of("template.html"))


def write(
    graph: DependencyGraph,
    path: PathLike,
    plan: Plan | None = None,
    *,
    title: str | None = None,
    inputs: str | None = None,
) -> None:
    """Write the page to a file; parameters are those of `page`. Raises `PrunusError` if that cannot be."""
    expect_writable(path)
    write_text(path, page(graph, plan, title=title, inputs=inputs))


def is_page(start: str) -> bool:
    """Whether a file that starts like this is such a page."""
    return " · prunus report</title>" in start


def shapes_of(graph: DependencyGraph) -> str:
    """The shapes and kinds of the example inputs."""
    return ", ".join(
        f"{'x'.join(map(str, value.shape)) or 'a scalar'} {str(value.dtype).removeprefix('torch.')}"
        for value in graph.trace.inputs
    )


def escaped(data: object) -> str:
    """JSON that cannot end the script element that it stands in: no ``</script>``, no ``<!--``."""
    return json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")


def library(name: str) -> str:
    """A library's code without the reference to its source map, which a browser might ask for."""
    return re.sub(r"^//# sourceMappingURL=.*$", "", text_of(f"vendor/{name}.min.js"), flags=re.MULTILINE)


def text_of(name: str) -> str:
    """A file of this package."""
    return files(__package__).joinpath(name).read_text(encoding="utf-8")
