"""Shortest ways and cut points, compared with networkx."""

import random

import networkx as nx
import pytest
from prunus.engine.grouping.paths import cut_points, shortest


def random_graph(seed):
    """A small graph with a way from its first node to its last."""
    dice = random.Random(seed)
    size = dice.randint(4, 14)
    graph = nx.gnm_random_graph(size, dice.randint(size - 1, size + 3), seed=seed)
    nx.add_path(graph, [0, *dice.sample(range(1, size - 1), dice.randint(0, size - 2)), size - 1])
    return graph


@pytest.mark.parametrize("seed", range(300))
def test_cut_points_are_those_whose_removal_separates(seed):
    """Compared with taking every node out in turn."""
    graph = random_graph(seed)
    start, end = 0, len(graph) - 1
    way = shortest(graph.neighbors, [start], {end}.__contains__)
    assert len(way) == nx.shortest_path_length(graph, start, end) + 1
    inside = [node for node in graph if node not in (start, end)]
    apart = {node for node in inside if not nx.has_path(graph.subgraph(set(graph) - {node}), start, end)}
    assert set(cut_points(graph.neighbors, way)) == apart


def test_what_is_apart_has_no_way():
    """Two pieces of one graph."""
    graph = nx.Graph([(0, 1), (2, 3)])
    assert not shortest(graph.neighbors, [0], {3}.__contains__)


def test_what_belongs_together_is_cut_together():
    """Two ways that pass through different parts of one unit: taking the unit out separates the ends."""
    graph = nx.Graph([(0, 1), (1, 2), (2, 9), (0, 3), (3, 4), (4, 9)])
    way = shortest(graph.neighbors, [0], {9}.__contains__)
    assert way == [0, 1, 2, 9] and cut_points(graph.neighbors, way) == []
    assert cut_points(graph.neighbors, way, lambda node: (2, 4) if node in (2, 4) else (node,)) == [2]


@pytest.mark.parametrize("seed", range(300))
def test_units_are_cut_where_their_removal_separates(seed):
    """Random units of several nodes, each taken out in turn."""
    graph = random_graph(seed)
    dice, end = random.Random(seed), len(graph) - 1
    units = {node: dice.randrange(len(graph)) for node in graph} | {0: -1, end: -2}
    way = shortest(graph.neighbors, [0], {end}.__contains__)
    rest = {unit: [node for node in graph if units[node] != unit] for unit in units.values()}
    apart = {unit for unit in rest if unit >= 0 and not nx.has_path(graph.subgraph(rest[unit]), 0, end)}
    found = cut_points(graph.neighbors, way, lambda node: [one for one in graph if units[one] == units[node]])
    assert {units[node] for node in found} == apart
