"""Drawings as Graphviz text, written without Graphviz."""

from __future__ import annotations

from collections.abc import Iterable

from .parts import Held, Hop


class Drawing:
    """Nodes and edges; what has the same name is the same node, except calls on a path."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._known: dict[str, str] = {}
        self._count = 0

    def node(self, label: str, shape: str, style: str = "solid") -> str:
        """The node of that label."""
        if label not in self._known:
            self._known[label] = self._new(label, shape, style)
        return self._known[label]

    def link(self, other: str, text: str, shape: str, style: str = "solid", label: str = "") -> str:
        """A new node beside `other`."""
        made = self._new(text, shape, style)
        self.edge(other, made, label)
        return made

    def edge(self, one: str, other: str, label: str = "") -> None:
        """A line between two nodes."""
        self._lines.append(f"  {one} -- {other}" + (f" [label={_quoted(label)}];" if label else ";"))

    def held(self, node: str, reasons: Iterable[Held]) -> None:
        """What holds a group back, with the way there, and the groups that it is tied with."""
        for one in reasons:
            last = node
            for hop in one.path:
                last = self.link(last, label_of(hop), "ellipse")
            last = self.link(last, one.text, "octagon")
            if one.origin and not one.path:
                self.link(last, label_of(one.origin), "ellipse")
            for name, size in one.tied:
                self.edge(last, self.node(f"{name}\n{size} slots", "folder"))

    def text(self, title: str) -> str:
        """All of it."""
        head = [f"graph {_quoted(title)} {{", "  node [fontname=monospace];"]
        return "\n".join([*head, *self._lines, "}"]) + "\n"

    def _new(self, label: str, shape: str, style: str) -> str:
        self._count += 1
        name = f"n{self._count}"
        self._lines.append(f"  {name} [label={_quoted(label)}, shape={shape}, style={style}];")
        return name


def label_of(hop: Hop) -> str:
    return f"{hop.operation} {hop.factor}".strip() + f"\n{hop.source}"


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
