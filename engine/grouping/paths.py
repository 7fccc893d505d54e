"""Shortest ways and cut points in graphs that are given by the neighbours of their nodes.

An answer mostly needs a small part of a graph of a hundred thousand nodes, and building the whole of it for
networkx takes longer than finding the answer.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import TypeVar

Node = TypeVar("Node", bound=Hashable)


def shortest(
    neighbours: Callable[[Node], Iterable[Node]], starts: Iterable[Node], is_end: Callable[[Node], bool]
) -> list[Node]:
    """The nodes of a shortest way from one of `starts` to an end, both included; empty if there is none."""
    came_from: dict[Node, Node | None] = dict.fromkeys(starts)
    reached = next((node for node in came_from if is_end(node)), None)
    layer = list(came_from)
    while layer and reached is None:
        following: list[Node] = []
        for node in layer:
            for other in neighbours(node):
                if other not in came_from:
                    came_from[other] = node
                    following.append(other)
                    if reached is None and is_end(other):
                        reached = other
        layer = following
    way: list[Node] = []
    while reached is not None:
        way.append(reached)
        reached = came_from[reached]
    return way[::-1]


def cut_points(
    neighbours: Callable[[Node], Iterable[Node]],
    way: Sequence[Node],
    together: Callable[[Node], Iterable[Node]] = lambda node: (node,),
) -> list[Node]:
    """The nodes inside `way`, a shortest way, that each by itself holds its two ends together.

    A node is taken out with all those that are cut `together` with it. The way is walked once, and whatever
    can be reached from behind is explored on the side: a node is a cut point if no detour has jumped over it.
    So every node is looked at once, where `networkx.articulation_points` would need the whole graph. Only
    where what is cut together with a later node was reached is it tried whether there is another way.
    """
    order: dict[Node, int] = {}
    for index, node in enumerate(way):
        for one in together(node):
            order.setdefault(one, index)
    found: list[Node] = []
    waiting: dict[int, list[Node]] = {}  # off the way, but cut together with a node that has not been passed
    seen: set[Node] = set()
    farthest = doubtful = 0
    for index, node in enumerate(way[:-1]):
        is_cut = order[node] == index == farthest and index > 0
        if is_cut and (index >= doubtful or not _is_way(neighbours, way, set(together(node)))):
            found.append(node)
        todo = [one for one in (node, *waiting.pop(index, ())) if one not in seen]
        seen.update(todo)
        while todo:
            for other in neighbours(todo.pop()):
                if other not in seen:
                    position = order.get(other, 0)
                    if position <= index:
                        seen.add(other)
                        todo.append(other)
                        continue
                    if other == way[position]:
                        farthest = max(farthest, position)
                    else:
                        doubtful = max(doubtful, position)
                        waiting.setdefault(position, []).append(other)
    return found


def _is_way(neighbours: Callable[[Node], Iterable[Node]], way: Sequence[Node], without: set[Node]) -> bool:
    """Whether the ends of `way` are connected without some nodes."""

    def left(node: Node) -> list[Node]:
        return [other for other in neighbours(node) if other not in without]

    # The last node may be no neighbour of its neighbours, as nothing leads on from it.
    return bool(shortest(left, way[:1], set(neighbours(way[-1])).__contains__))
