"""The audit: slots as plans have them, single points of coupling, ends, ties, blocks; whole answers."""

import functools
import json
import os
import random
import re
import runpy
import shlex
import subprocess
import sys
from itertools import combinations
from pathlib import Path

import networkx as nx
import pytest
import torch
import zoo_models
from prunus import engine
from prunus.cli import parser
from prunus.engine.axes.formula import spread_of
from prunus.engine.axes.layout import Atom
from random_nets import RandomNet
from torch import nn

ROOT = Path(__file__).resolve().parents[3]


@functools.cache
def analysed(kind, name):
    """A model of the zoo; the tests only look at it."""
    return engine.analyze(*zoo_models.build(kind, name))


ZOO = [
    ("torchvision", "resnet18"),
    ("torchvision", "shufflenet_v2_x1_0"),
    ("transformers", "LlamaForCausalLM"),
    ("transformers", "GPT2LMHeadModel"),
    ("torch_geometric", "GAT"),
]


@pytest.mark.parametrize("kind, name", ZOO)
def test_the_relation_is_what_a_plan_does(kind, name):
    """Dropping one slot of a group drops the indices that the relation of any two of its axes names."""
    graph = analysed(kind, name)
    dice = random.Random(0)
    tried = 0
    for group in graph.groups:
        if group.tie or group.size < 2 or len(group.members) < 2:
            continue
        slot = dice.randrange(group.size)
        plan = graph.plan({group.name: [one for one in range(group.size) if one != slot]})
        one, other = dice.sample(group.members, 2)
        said = spread_of(graph.layout(one), group.atom), spread_of(graph.layout(other), group.atom)
        for member, spread in zip((one, other), said):
            kept = plan.tensors[member.tensor][member.axis]
            size = graph.trace.tensors[member.tensor].shape[member.axis]
            assert sorted(set(range(size)) - set(kept)) == spread.of(slot), (group.name, member)
        tried += 1
    assert tried > 1


@pytest.mark.parametrize("kind, name", ZOO)
def test_whatever_shares_slots_has_a_path(kind, name):
    """Axes of one group are connected by calls, from the one axis to the other, each next to the next."""
    graph = analysed(kind, name)
    dice = random.Random(1)
    for group in [*graph.groups, *graph.blocked]:
        pairs = list(combinations(group.members, 2))
        for one, other in dice.sample(pairs, min(3, len(pairs))):
            answer = graph.why(str(one), str(other))
            assert answer.kind == "coupled" and answer.path, (one, other)
            assert [answer.start, answer.end] == [str(one), str(other)]


# Single points of coupling


def separated(graph, group, call, start, end):
    """Whether the two axes are apart once all that a call couples is taken out."""
    network = graph.coupling_index.graph(group.atom).network()
    couplings = [node for node in network if not isinstance(node, tuple)]
    network.remove_nodes_from([one for one in couplings if one.origin.call is call])
    return not nx.has_path(network, graph.place(start), graph.place(end))


def own_calls(graph, members):
    values = [graph.place(member)[0] for member in members]
    return [call for call in graph.trace.calls if not set(values).isdisjoint(call.values)]


def shared(graph, start, end):
    """The names of the groups that have both axes."""
    return {one.name for one in graph.groups_at(start)} & {one.name for one in graph.groups_at(end)}


@pytest.mark.parametrize("seed", range(40))
def test_cutting_a_named_call_separates_and_no_other_does(seed):
    """In random nets with skips, splits and joins: every call of the model is taken out in turn."""
    net = RandomNet(seed).eval()
    graph = engine.analyze(net, net.inputs())
    dice = random.Random(seed)
    groups = [group for group in [*graph.groups, *graph.blocked] if len(group.layers) > 1]
    pairs = [(group, *pair) for group in groups for pair in combinations(group.members, 2)]
    pairs = [(group, start, end) for group, start, end in pairs if shared(graph, start, end) == {group.name}]
    if not pairs:
        pytest.skip("no two axes have one group alone in common")
    for group, start, end in dice.sample(pairs, min(3, len(pairs))):
        answer = graph.why(str(start), str(end))
        own = own_calls(graph, (start, end))
        calls = [call for call in graph.trace.calls if call not in own]
        cutting = [call for call in calls if separated(graph, group, call, start, end)]
        said = [(hop.operation, hop.module, hop.source) for hop in answer.cuts or ()]
        found = [(call.name.rpartition(".")[2], call.module, call.source.short) for call in cutting]
        assert sorted(said) == sorted(found), str(answer)


class Ways(nn.Module):
    """Two ways from one layer to another, and one way to a third."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(3, 8), nn.Linear(8, 8), nn.Linear(8, 2)

    def forward(self, x):
        x = self.a(x)
        y = x.relu() * x.tanh()
        return self.c(self.b(y).sigmoid() + y.exp())


def test_two_separate_ways_have_no_single_point(said):
    """The product couples what comes over both ways; behind it there is one way only."""
    graph = engine.analyze(Ways(), torch.randn(2, 3))
    one_way = graph.why("b.weight[0]", "c.weight[1]")
    assert [hop.operation for hop in one_way.cuts] == ["sigmoid", "add"]
    joined = graph.why("a.weight[0]", "b.weight[1]")
    assert [hop.operation for hop in joined.cuts] == ["mul"]
    said(one_way, joined)


def test_where_two_ways_stay_apart_the_answer_says_so(said):
    """A skip from the one layer to the other, beside an activation."""

    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(3, 8), nn.Linear(8, 2)

        def forward(self, x):
            x = self.a(x)
            return self.b(x.relu()) + self.b(x.tanh())

    answer = engine.analyze(Twice(), torch.randn(2, 3)).why("a", "b")
    assert answer.cuts == ()
    said(answer)


def test_neighbours_have_nothing_between_them(said):
    """Two layers of which the one reads what the other makes."""
    graph = engine.analyze(nn.Sequential(nn.Linear(3, 8), nn.Linear(8, 2)), torch.randn(2, 3))
    answer = graph.why("0", "1")
    assert answer.cuts is None
    said(answer)


def test_a_long_path_is_shortened_only_in_print(said):
    """Its data has every hop."""
    model = nn.Sequential(nn.Linear(3, 4), *[nn.ReLU() for _ in range(90)], nn.Linear(4, 2))
    answer = engine.analyze(model, torch.randn(2, 3)).why("0", "91")
    assert len(answer.path) == 92 and len(answer.to_dict()["path"]) == 92
    said(answer)


# What is not coupled


class Branches(nn.Module):
    """Layers whose slots end in different ways."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(3, 8), nn.Linear(8, 6), nn.Linear(6, 2)
        self.d = nn.Linear(3, 5)

    def forward(self, x):
        y = self.b(self.a(x).relu()).tanh()
        return self.c(y), self.d(x)


@pytest.fixture(scope="module")
def branches():
    return engine.analyze(Branches(), torch.randn(2, 3))


def test_a_negative_answer_says_where_each_ends(branches, said):
    """The sum in the next layer; the new axis of the layer before; each with its line."""
    answer = branches.why("a.weight[0]", "c.weight[1]")
    first, second = answer.axes
    assert answer.kind == "apart"
    assert (first.end.text, first.end.at.operation, first.end.at.module) == (
        "`in` is summed here",
        "linear",
        "b",
    )
    assert (second.end.text, second.end.at.module) == ("`out` is a new axis here", "b")
    said(answer)


def test_a_negative_answer_says_where_the_two_meet(branches):
    """Both are axes of one layer between them."""
    meeting = branches.why("a.weight[0]", "c.weight[1]").meeting
    assert (meeting.one, meeting.other) == ("in", "out")


def test_parts_of_one_axis_meet_where_they_are_joined(said):
    """A concatenation has both side by side."""

    class Joined(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c = nn.Linear(3, 4), nn.Linear(3, 5), nn.Linear(9, 2)

        def forward(self, x):
            return self.c(torch.cat([self.a(x), self.b(x)], 1))

    said(engine.analyze(Joined(), torch.randn(2, 3)).why("a.weight[0]", "b.weight[0]"))


def test_the_nearest_is_fewest_calls_away(branches):
    """Compared with networkx on the traced network, for every pair of layers that share nothing."""
    graph = analysed("torchvision", "resnet18")
    network = graph.network.to_undirected(as_view=True)
    answer = graph.why("layer2.0.conv1", "layer4.1.conv2")
    for axis in answer.axes:
        member = next(one for one in graph.group(axis.group).members if str(one) == axis.axes[0])
        lengths = nx.single_source_shortest_path_length(network, graph.place(member)[0])
        others = [one for one in graph.group(axis.group).members if one.layer != member.layer]
        nearest = min(lengths[graph.place(one)[0]] for one in others)
        assert axis.near.calls == nearest // 2 - 1
        assert any(lengths[graph.place(one)[0]] == nearest for one in others if one.layer == axis.near.layer)


def test_the_models_output_is_an_end(branches):
    """What the user sees of a model keeps its slots, and the call that made it is named."""
    answer = branches.why("c.weight[0]", "d.weight[0]")
    held = [axis.held[0] for axis in answer.axes]
    assert [one.text for one in held] == ["blocked: axis 1 of the model's output"] * 2
    assert [one.origin.module for one in held] == ["c", "d"]


# Ties and blocks


class Tied(nn.Module):
    """Widths that one line of code keeps in proportion, and a third that follows through another line."""

    def __init__(self):
        super().__init__()
        self.heads = 4
        self.enter = nn.Linear(5, 24)
        self.query = nn.Linear(24, 24)
        self.back = nn.Linear(24, 3)
        self.out = nn.Linear(24, 3)

    def forward(self, x):
        x = self.enter(x)
        width = x.shape[-1]
        y = self.query(x).view(x.shape[0], self.heads, width // self.heads)
        return self.out(x) + self.back(y.softmax(-1).flatten(1))


def test_a_tie_names_its_groups_equation_and_line(said):
    """Also as data, and the same for the pair as for one of the two."""
    graph = engine.analyze(Tied(), torch.randn(2, 5))
    one, other = [group for group in graph.groups if group.tie][:2]
    member, partner = one.members[0], other.members[0]
    pair = graph.why(str(member), str(partner))
    single = graph.why(str(member))
    assert pair.kind == "tied"
    said(pair, single)
    for answer in (pair.held, next(axis.held for axis in single.axes if axis.group == one.name)):
        tie = next(held for held in answer if held.kind == "tied")
        assert tie.tied[0][0] in (one.name, other.name)
        (because,) = tie.equations
        assert "==" in because.equation and one.name in because.equation
        assert "width // self.heads" in because.text and "test_audit.py:" in because.source


def test_a_chain_of_ties_is_followed(branches):
    """Two groups tied through a third one: the equations of both links, in order."""
    from prunus.engine.sizes.ties import Ties

    ties, (a, b, c, d) = Ties(), (Atom(4) for _ in range(4))
    assert ties.join([a, b], "first") and ties.join([c, b], "second")
    assert not ties.join([a, c], "third")
    assert ties.between(a, c) == ["first", "second"] and ties.between(c, a) == ["second", "first"]
    assert ties.between(a, d) == [] and ties.causes(b) == ["first", "second"] and ties.causes(d) == []


@torch.library.custom_op("prunus_audit::twist", mutates_args=())
def twist(x: torch.Tensor) -> torch.Tensor:
    """An operation that no shipped rule can know."""
    return x * 2


class Held(nn.Module):
    """A layer whose slots reach an unknown operation two calls later."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(4, 9), nn.Linear(9, 2)

    def forward(self, x):
        return self.b(twist(self.a(x).relu()))


def test_a_block_names_its_origin_and_the_way_there():
    """Call, module, source line and text; the path from the layer as data."""
    axis = engine.analyze(Held(), torch.randn(2, 4)).why("a.weight[0]").to_dict()["axes"][0]
    (held,) = axis["held"]
    assert held["kind"] == "blocked" and held["text"] == "blocked: no rule for torch.ops.prunus_audit.twist"
    assert held["origin"]["operation"] == "twist" and "test_audit.py:" in held["origin"]["source"]
    assert held["origin"]["text"] == "return self.b(twist(self.a(x).relu()))"
    assert [hop["operation"] for hop in held["path"]] == ["linear", "relu"]


def test_a_block_by_a_rule_names_the_rule(said):
    """The extents of a kernel are held by the rule of the convolution; both in one line."""
    said(analysed("torchvision", "resnet18").why("conv1"))


def test_a_container_can_be_pruned_if_a_layer_in_it_can(said):
    """The question may name a block instead of a layer."""
    graph = analysed("torchvision", "resnet18")
    said(graph.why("layer1.0"))
    assert graph.why("layer1.0.bn1").kind == "follows"


def test_the_same_axis_twice_is_no_path(branches, said):
    """Asking for a layer and one of its own axes."""
    answer = branches.why("a", "a.weight[0]")
    assert not answer.path
    said(answer)


# Data and pictures


QUESTIONS = [("layer1.0.conv2", "layer1.1.conv2"), ("conv1", "layer3.0.conv1"), ("fc",), ("layer1.0",)]


@pytest.mark.parametrize("names", QUESTIONS, ids=" ".join)
def test_answers_are_plain_data(names):
    """Dicts, lists, text and numbers only: to JSON and back changes nothing, not even a tuple to a list."""
    data = analysed("torchvision", "resnet18").why(*names).to_dict()
    assert json.loads(json.dumps(data)) == data


def test_the_data_has_the_relation_and_the_cuts():
    """As fields, not only as text."""
    data = analysed("torchvision", "resnet18").why("layer1.0.conv2", "layer1.1.conv2").to_dict()
    assert data["kind"] == "coupled"
    assert data["relation"]["text"] == "slot i of the one is slot i of the other."
    assert data["relation"]["one"] == {
        "size": 64,
        "slots": 64,
        "runs": [{"start": 0, "step": 1, "width": 1, "repeats": []}],
    }
    assert "layer1.1" in [hop["module"] for hop in data["cuts"] if hop["operation"] == "add_"]


def read_dot(text):
    """Nodes and edges of a Graphviz graph, read line by line, with what is between quotes taken as one."""
    head, _, *lines, last = text.splitlines()
    assert re.fullmatch(r'graph "(\\.|[^"\\])*" \{', head) and last == "}"
    nodes, edges = {}, []
    for line in lines:
        node = re.fullmatch(r'  (n\d+) \[label="((?:\\.|[^"\\])*)", shape=\w+, style=\w+\];', line)
        edge = re.fullmatch(r'  (n\d+) -- (n\d+)( \[label="(\\.|[^"\\])*"\])?;', line)
        assert node or edge, line
        if node:
            nodes[node[1]] = node[2]
        else:
            edges.append(edge.groups()[:2])
    return nodes, edges


@pytest.mark.parametrize("names", QUESTIONS, ids=" ".join)
def test_a_picture_is_well_formed(names):
    """Every edge joins nodes that are there, and nothing hangs loose."""
    nodes, edges = read_dot(analysed("torchvision", "resnet18").why(*names).to_dot())
    assert edges and {node for edge in edges for node in edge} == set(nodes)


def test_the_picture_of_a_path_is_the_path():
    """From the one axis over every call to the other."""
    answer = analysed("torchvision", "resnet18").why("layer1.0.conv2", "layer1.1.conv2")
    nodes, edges = read_dot(answer.to_dot())
    ids = {label: node for node, label in nodes.items()}
    way = nx.shortest_path(nx.Graph(edges), ids[answer.start], ids[answer.end])
    assert [nodes[node].split()[0] for node in way[1:-1]] == [hop.operation for hop in answer.path]


def test_quotes_and_backslashes_are_escaped():
    """Names and reasons may hold any character."""
    from prunus.engine.explaining.answer import Explanation
    from prunus.engine.explaining.parts import AxisGroup
    from prunus.engine.explaining.parts import Held as HeldBack

    odd = 'a "quoted" \\ name'
    held = (HeldBack("blocked", odd),)
    nodes, _ = read_dot(Explanation("held", odd, axes=(AxisGroup((odd,), odd, 3, True, held),)).to_dot())
    assert 'a \\"quoted\\" \\\\ name' in nodes.values()


SCRIPT = """
import torch
from prunus import engine
layer = torch.nn.TransformerEncoderLayer(24, 4, 40, batch_first=True)
encoder = torch.nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
model = torch.nn.Sequential(torch.nn.Linear(7, 24), encoder, torch.nn.Linear(24, 3)).eval()
graph = engine.analyze(model, torch.randn(1, 5, 7))
names = ["0", "1.layers.0.self_attn", "1.layers.0.linear1", "1.layers.1.linear2", "1.layers.1.norm2", "2"]
for a in names:
    for b in [None, *names]:
        answer = graph.why(a, b)
        print(answer, answer.to_dict(), answer.to_dot())
"""


def test_answers_do_not_depend_on_the_hash_seed():
    """Two processes with different seeds print the same bytes."""
    outputs = [
        subprocess.run(
            [sys.executable, "-W", "ignore", "-c", SCRIPT],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert outputs[0] == outputs[1] and "are coupled" in outputs[0] and "because" in outputs[0]


# What is said of real models


class TextClassifier(nn.Module):
    """Words, a bidirectional LSTM of two layers, a class."""

    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(50, 12)
        self.lstm = nn.LSTM(12, 20, num_layers=2, bidirectional=True, batch_first=True)
        self.head = nn.Linear(40, 4)

    def forward(self, x):
        y, _ = self.lstm(self.words(x))
        return self.head(y.mean(1))


MODELS = {
    "resnet18": lambda: analysed("torchvision", "resnet18"),
    "densenet121": lambda: analysed("torchvision", "densenet121"),
    "vit": lambda: analysed("timm", "vit_tiny_patch16_224"),
    "llama": lambda: analysed("transformers", "LlamaForCausalLM"),
    "lstm": lambda: engine.analyze(TextClassifier().eval(), torch.randint(0, 50, (2, 7))),
    "gat": lambda: analysed("torch_geometric", "GAT"),
}
LLAMA = "model.layers.0.self_attn"
ASKED = {
    "resnet18": [
        ("layer1.0.conv2", "layer1.1.conv2"),  # blocks share their source: each hop says in which it is
        ("conv1", "layer2.0.downsample.0"),
        ("layer1.0.conv1", "layer3.0.conv1"),
        ("layer4.1",),
        ("fc",),
    ],
    "densenet121": [
        ("features.denseblock1.denselayer1.conv2", "features.denseblock1.denselayer3.conv1"),
        ("features.denseblock1.denselayer2.conv2", "features.transition1.conv"),
        ("features.conv0", "features.denseblock1.denselayer2.conv2"),
        ("features.denseblock1.denselayer1.conv2",),
    ],
    "vit": [
        ("blocks.0.attn.qkv", "blocks.0.attn.proj"),
        ("blocks.0.attn.qkv.weight[0]", "blocks.1.attn.qkv.weight[0]"),
        ("cls_token", "blocks.1.mlp.fc2"),
        ("blocks.0.attn.qkv",),
    ],
    "llama": [
        (f"{LLAMA}.q_proj", f"{LLAMA}.k_proj"),
        (f"{LLAMA}.v_proj.weight[0]", f"{LLAMA}.o_proj.weight[1]"),
        (f"{LLAMA}.v_proj.weight[0]", "model.layers.1.self_attn.v_proj.weight[0]"),
        ("model.embed_tokens", "model.layers.1.mlp.down_proj"),
        (f"{LLAMA}.q_proj",),
        ("lm_head",),
    ],
    "lstm": [
        ("words", "lstm"),
        ("lstm", "head"),
        ("lstm.weight_hh_l0", "lstm.weight_hh_l0_reverse"),
        ("lstm",),
    ],
    "gat": [
        ("convs.0", "convs.1"),
        ("convs.0.lin", "convs.0.att_src"),
        ("convs.0", "convs.2"),
        ("convs.1",),
    ],
}


@pytest.mark.parametrize("name", MODELS)
def test_the_answers_of_real_models_stay_as_they_are(name, said):
    """Whole texts, line numbers and the width of columns aside."""
    graph = MODELS[name]()
    said(*(f"why {' '.join(names)}\n\n{graph.why(*names)}" for names in ASKED[name]))


PAGE = (ROOT / "docs" / "why.md").read_text(encoding="utf-8")
BLOCKS = runpy.run_path(str(ROOT / "docs" / "console.py"))["blocks"](PAGE)


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.name)
def test_the_guide_shows_commands_that_exist_and_what_they_print(block):
    """Every command parses, and something stands below."""
    assert block.commands and block.output.strip()
    for command in block.commands:
        program, *arguments = shlex.split(command)
        if program == "prunus":
            parser().parse_args(arguments)
        else:
            assert program in ("cd", "python") and (ROOT / arguments[0]).exists()


def test_every_block_of_the_guide_is_renewed():
    """A marker with a typing error would silently freeze its block."""
    assert len(BLOCKS) == PAGE.count("<!-- begin:") == PAGE.count("<!-- end:") > 0
