"""Loading and layering rule files, finding rules, and the argument names of torch's callables."""

import sys
import types

import pytest
import torch
import torch.nn.functional as F
from prunus.errors import RuleError
from prunus.rules import load
from prunus.rules.arguments import argument_names, bind
from torch.overrides import TorchFunctionMode

torch.set_num_threads(1)

NN = """
# nn.rules

conv      = torch.conv1d, torch.conv2d, torch.conv3d
conv:       input[n (g in) *x], weight[(g out) in *k], bias[(g out)]? -> [n (g out) *y]
            where g = groups
            out -> next.in
            macs n g out in *k *y

linear    = torch.nn.functional.linear
linear:     input[*b in], weight[out in], bias[out]? -> [*b out];  out -> next.in;  macs *b in out

layernorm = torch.nn.functional.layer_norm
layernorm:  input[*b *c], weight[*c]?, bias[*c]? -> [*b *c];  where *c = normalized_shape;  mixes *c

softmax   = torch.softmax
softmax:    input[*p c *s] -> [*p c *s];  at c = dim;  mixes c

attention = torch.nn.functional.scaled_dot_product_attention
attention:  query[*b heads l qk], key[*b heads s qk], value[*b heads s v] -> [*b heads l v]

concat    = torch.cat, torch.concat, torch.concatenate
concat:     split(out) by input sizes
split     = torch.split, torch.Tensor.split
split:      split(in) by output sizes

add       = torch.add
add:        input[*s], other[*s]? -> [*s]
relu      = torch.nn.functional.relu
relu:       in <-> out
turn      = torch.Tensor.T, torch.Tensor.mT
turn:       permute

swiglu    = layers_for_test.SwiGLU
swiglu:     x[*b i], self.w1.weight[h i], self.w2.weight[o h] -> [*b o];  o -> next.in
double    = layers_for_test.Double
double:     in <-> out

module torch.nn.Linear: in_features = weight[1], out_features = weight[0]
"""


class SwiGLU(torch.nn.Module):
    """A module that is one operation to the rules above."""

    def forward(self, x):
        return x


class Double(torch.autograd.Function):
    """An autograd function that is one operation to the rules above."""

    @staticmethod
    def forward(ctx, x, by=2):
        return x * by


@pytest.fixture(autouse=True)
def layers_for_test(monkeypatch):
    """A package of the user's own."""
    package = types.ModuleType("layers_for_test")
    package.SwiGLU, package.Double = SwiGLU, Double
    monkeypatch.setitem(sys.modules, "layers_for_test", package)


@pytest.fixture
def rules(tmp_path):
    """Load texts as files, one layer each."""

    def write(*texts):
        paths = []
        for i, text in enumerate(texts):
            paths.append(tmp_path / f"{i}.rules")
            paths[-1].write_text(text)
        return load(paths)

    return write


def test_design_rules(rules):
    """The rules of the design load, and speak for their targets."""
    nn = rules(NN)
    spoken = {
        torch.conv2d: "conv",
        F.conv2d: "conv",
        F.linear: "linear",
        F.softmax: "softmax",
        torch.Tensor.softmax: "softmax",
        torch.cat: "concat",
        torch.Tensor.split: "split",
        SwiGLU: "swiglu",
        Double: "double",
    }
    assert {target: nn.rule_for(target).name for target in spoken} == spoken
    assert nn.opaque == {SwiGLU, Double}
    assert nn.rule_for(torch.histc) is nn.rule_for(len) is nn.rule_for(torch.ops.aten.histc.default) is None
    assert nn.rules["conv"].span.line == 5


def test_bookkeeping(rules):
    """Module rules hold for subclasses too."""
    nn = rules(NN)
    assert nn.bookkeeping(type("MyLinear", (torch.nn.Linear,), {})).target == "torch.nn.Linear"
    assert nn.bookkeeping(torch.nn.Conv2d) is None


SPELLINGS = {
    "x + x": "add",
    "1 + x": "add",
    "x.add_(1)": "add",
    "torch.add(x, x)": "add",
    "x.__iadd__(1)": "add",
    "torch.ops.aten.add(x, x)": "add",
    "torch.ops.aten.add.Tensor(x, x)": "add",
    "torch.ops.aten.relu.default(x)": "relu",
    "F.relu(x)": "relu",
    "F.relu_(x)": "relu",
    "x.relu()": "relu",
    "torch.relu_(x)": "relu",
    "x.T": "turn",
    "x.mT": "turn",
    "torch.ops.aten._softmax(x, 0, False)": None,
    "x - x": None,
}


@pytest.mark.parametrize("code", SPELLINGS)
def test_spellings(rules, code):
    """What a ``TorchFunctionMode`` sees finds its rule, however the user spelled it."""
    seen = []

    class Mode(TorchFunctionMode):
        def __torch_function__(self, function, types, args=(), kwargs=None):
            seen.append(function)
            return function(*args, **(kwargs or {}))

    scope = {"x": torch.ones(2, 2), "torch": torch, "F": F}
    with Mode():
        eval(code, scope)
    rule = rules(NN).rule_for(seen[0])
    assert (rule and rule.name) == SPELLINGS[code]


def test_a_function_that_another_package_replaces(rules, monkeypatch):
    """The built-in one, which the replacement calls, keeps its rule."""
    built_in = torch._C._VariableFunctions.select
    monkeypatch.setattr(torch, "select", lambda *args: built_in(*args))
    assert rules("pick = torch.select\npick: select").rule_for(built_in).name == "pick"
    assert rules("pick = torch.Tensor.select\npick: select").rule_for(built_in).name == "pick"


def test_explicit_target_beats_a_spelling(rules):
    """Whatever the order, a target that is written out goes to its own rule; in-place names stand alone."""
    both = rules("a = torch.relu\na: in <-> out\nb = torch.Tensor.relu_\nb: roll")
    assert both.rule_for(torch.Tensor.relu_).name == "b"
    assert both.rule_for(torch.relu_).name == both.rule_for(F.relu).name == "a"
    unfold = rules("u = torch.nn.functional.unfold\nu: lower")
    assert unfold.rule_for(F.unfold) and unfold.rule_for(torch.Tensor.unfold) is None


def test_later_layers_win(rules):
    """For one target the last rule counts, also against an explicit spelling below."""
    stack = rules(NN, "mine = torch.add\nmine: roll", "softmax: in <-> out")
    assert stack.rule_for(torch.add).name == stack.rule_for(torch.Tensor.__radd__).name == "mine"
    assert stack.rule_for(F.softmax).body.short
    below = rules("a = torch.Tensor.relu\na: roll", "b = torch.relu\nb: in <-> out")
    assert below.rule_for(torch.Tensor.relu).name == "b"


def test_same_name_for_other_targets(rules):
    """A rule of a name that exists below speaks for its own targets only."""
    stack = rules(NN, "conv = torch.histc\nconv: roll")
    assert stack.rule_for(torch.histc).body.verb == "roll"
    assert stack.rule_for(torch.conv2d).clauses


def test_refinement(rules):
    """A rule without a body adds its clauses to the one below, whose targets it keeps."""
    plain, refined = rules(NN), rules(NN, 'conv: hold in; block g "mine"')
    assert refined.rule_for(torch.conv2d).body == plain.rules["conv"].body
    assert refined.rule_for(F.conv1d).clauses[:3] == plain.rules["conv"].clauses
    assert len(refined.rules["conv"].clauses) == 5
    assert len(plain.rule_for(torch.conv2d).clauses) == 3
    more = rules(NN, "add = torch.hypot\nadd: hold *s")
    assert more.rule_for(torch.hypot).name == more.rule_for(torch.add).name == "add"


def test_use(tmp_path):
    """``use`` puts another rule set underneath, once."""
    (tmp_path / "base.rules").write_text(NN)
    mine = tmp_path / "mine.rules"
    mine.write_text("use default\nuse base.rules\nconv: hold in")
    assert len(load(mine).rule_for(torch.conv2d).clauses) == 4
    assert len(load([tmp_path / "base.rules", str(mine)]).layers) == 3
    assert load(load(mine)).rules == load(mine).rules
    (tmp_path / "round.rules").write_text("use round.rules")
    with pytest.raises(RuleError, match="uses itself"):
        load(tmp_path / "round.rules")


def test_default_is_loaded_once():
    """The shipped rules are parsed once per process and load without an error."""
    assert load() is load("default")
    assert load([load(), "default"]).layers == load().layers


def test_custom_operator(rules):
    """A custom operator may be written as the function that defines it."""

    @torch.library.custom_op("prunus_test::twice", mutates_args=())
    def twice(x: torch.Tensor, factor: int) -> torch.Tensor:
        return x * factor

    sys.modules["layers_for_test"].twice = twice
    for name in (
        "layers_for_test.twice",
        "torch.ops.prunus_test.twice",
        "torch.ops.prunus_test.twice.default",
    ):
        mine = rules(f"twice = {name}\ntwice: x[*s] -> [*s]")
        assert mine.rule_for(torch.ops.prunus_test.twice.default).name == "twice"
        assert mine.rule_for(torch.ops.prunus_test.twice).name == "twice"
    assert argument_names(torch.ops.prunus_test.twice) == ("x", "factor")


ERRORS = r"""
a = torch.conv2d
a: input[n (g in) *x] -> [n]
  where g = grops
----
error: 'grops' is not an argument of torch.conv2d
  FILE:3:13
    where g = grops
              ^^^^^
help: did you mean 'groups'?
====
a = torch.relu, torch.conv2dd
a: roll
----
error: no target 'torch.conv2dd'
  FILE:1:17
    a = torch.relu, torch.conv2dd
                    ^^^^^^^^^^^^^
help: did you mean 'conv2d'?
====
a = no_such_package.relu
a: roll
----
error: no target 'no_such_package.relu'
  FILE:1:5
    a = no_such_package.relu
        ^^^^^^^^^^^^^^^^^^^^
help: no package 'no_such_package' is installed
====
a = torch.softmax
a: inputs[n] -> [n]
----
error: 'inputs' is not an argument of torch.softmax
  FILE:2:4
    a: inputs[n] -> [n]
       ^^^^^^
help: did you mean 'input'?
====
a = torch.softmax
a: input[dmi] -> [dmi]; at dmi = dmi
----
error: 'dmi' is not an argument of torch.softmax
  FILE:2:34
    a: input[dmi] -> [dmi]; at dmi = dmi
                                     ^^^
help: did you mean 'dim'?
====
a = torch.relu
a: self.weight[n] -> [n]
----
error: 'self.weight' needs a module, and torch.relu is none
  FILE:2:4
    a: self.weight[n] -> [n]
       ^^^^^^^^^^^
help: name one of its arguments
====
a = torch.relu
a: hold in
----
error: rule 'a' has no body
  FILE:2:1
    a: hold in
    ^
help: give it a signature or a relation: 'input[...] -> [...]'
====
cnov: hold in
----
error: no rule 'cnov' to refine
  FILE:1:1
    cnov: hold in
    ^^^^
help: a rule without a body refines one of a lower layer
====
a: roll
----
error: rule 'a' has no targets
  FILE:1:1
    a: roll
    ^
help: write 'a = ...' above it
====
conv = torch.relu; cov: roll
----
error: rule 'cov' has no targets
  FILE:1:20
    conv = torch.relu; cov: roll
                       ^^^
help: did you mean 'conv'?
====
a = torch.relu
----
error: no rule is called 'a'
  FILE:1:1
    a = torch.relu
    ^
help: write 'a: ...'
====
module torch.nn.Linaer: in_features = weight[1]
----
error: no target 'torch.nn.Linaer'
  FILE:1:8
    module torch.nn.Linaer: in_features = weight[1]
           ^^^^^^^^^^^^^^^
help: did you mean 'Linear'?
====
module torch.relu: a = b[0]
----
error: 'torch.relu' is not a module class
  FILE:1:8
    module torch.relu: a = b[0]
           ^^^^^^^^^^
help: 'module' is for subclasses of torch.nn.Module
====
use defualt
----
error: no rule file 'defualt'
  FILE:1:1
    use defualt
    ^^^^^^^^^^^
help: write 'use default' or a path
"""


@pytest.mark.parametrize("case", ERRORS.strip().split("\n====\n"))
def test_errors(rules, tmp_path, case):
    """Errors of loading show the same way as errors of syntax."""
    text, message = case.split("\n----\n")
    with pytest.raises(RuleError) as caught:
        rules(text)
    assert str(caught.value) == message.strip().replace("FILE", str(tmp_path / "0.rules"))


def test_refining_with_a_wrong_argument(rules):
    """Clauses added from above are checked against the targets below."""
    with pytest.raises(RuleError, match=r"'grops' is not an argument of torch.conv1d"):
        rules(NN, "conv: where g = grops")
    with pytest.raises(RuleError, match="'gg' is not a factor of the signature of conv"):
        rules(NN, "conv: hold gg")


@pytest.mark.parametrize(
    "text", ["\ufeffuse default\nmine = torch.relu\n{}", "use default\r\nmine = torch.relu\r\n{}"]
)
def test_files_from_windows(tmp_path, text):
    """A mark at the beginning and line ends of two characters mean nothing."""
    file = tmp_path / "mine.rules"
    file.write_bytes(text.format("mine: in <-> out").encode())
    assert load(file).rule_for(torch.relu).name == "mine"


def test_missing_file():
    """A path that does not exist is said so."""
    with pytest.raises(RuleError, match=r"no rule file 'defalt'\nhelp: did you mean 'default'"):
        load("defalt")


X = torch.ones(2, 3)
T = torch.Tensor

CALLS = [
    (
        torch.conv2d,
        (X, X, None, 1, 0, 1, 4),
        {},
        {"input": X, "weight": X, "bias": None, "stride": 1, "groups": 4},
    ),
    (F.linear, (X, X), {"bias": X}, {"input": X, "weight": X, "bias": X}),
    (F.relu, (X,), {"inplace": True}, {"input": X, "inplace": True}),
    (T.add, (X, 1), {"alpha": 2}, {"input": X, "other": 1, "alpha": 2}),
    (T.__rsub__, (X, 2), {}, {"input": X, "other": 2}),
    (T.__rdiv__, (X, 2), {}, {"input": X, "other": 2}),
    (T.__and__, (X, X), {}, {"input": X, "other": X}),
    (T.pow, (X, 2), {}, {"input": X, "exponent": 2}),
    (T.matmul, (X, X), {}, {"input": X, "other": X}),
    (T.view, (X, 3, 2), {}, {"input": X, "shape": (3, 2)}),
    (T.view, (X, (3, 2)), {}, {"input": X, "shape": (3, 2)}),
    (T.view, (X, -1), {}, {"input": X, "shape": (-1,)}),
    (T.view, (X,), {"size": (3, 2)}, {"input": X, "shape": (3, 2)}),
    (T.view, (X, torch.int32), {}, {"input": X, "dtype": torch.int32}),
    (T.reshape, (X, 2, -1), {}, {"input": X, "shape": (2, -1)}),
    (torch.reshape, (X, (2, -1)), {}, {"input": X, "shape": (2, -1)}),
    (T.permute, (X, 1, 0), {}, {"input": X, "dims": (1, 0)}),
    (T.expand, (X, 2, -1), {}, {"input": X, "size": (2, -1)}),
    (T.repeat, (X, 2, 1), {}, {"input": X, "repeats": (2, 1)}),
    (T.flip, (X, 0, 1), {}, {"input": X, "dims": (0, 1)}),
    (T.new_zeros, (X, 2, 3), {}, {"input": X, "size": (2, 3)}),
    (T.new_full, (X, (2, 3), 7), {}, {"input": X, "size": (2, 3), "fill_value": 7}),
    (torch.zeros, (2, 3), {"dtype": None}, {"size": (2, 3), "dtype": None}),
    (torch.full, ((2,), 1.0), {}, {"size": (2,), "fill_value": 1.0}),
    (torch.einsum, ("ab,b", X, X), {}, {"equation": "ab,b", "operands": (X, X)}),
    (torch.einsum, ("ab", [X]), {}, {"equation": "ab", "operands": [X]}),
    (T.sum, (X, 1, True), {}, {"input": X, "dim": 1, "keepdim": True}),
    (T.mean, (X,), {"axis": 1, "keepdims": True}, {"input": X, "dim": 1, "keepdim": True}),
    (T.max, (X, 1), {}, {"input": X, "dim": 1}),
    (torch.max, (X, X), {}, {"input": X, "other": X}),
    (T.var, (X, 1, False), {}, {"input": X, "dim": 1, "unbiased": False}),
    (T.std, (X, False), {}, {"input": X, "unbiased": False}),
    (T.norm, (X, 2, 1, True), {}, {"input": X, "p": 2, "dim": 1, "keepdim": True}),
    (torch.logsumexp, (X, 1, True), {}, {"input": X, "dim": 1, "keepdim": True}),
    (T.argmax, (X, 1), {}, {"input": X, "dim": 1}),
    (T.topk, (X, 2, 1), {}, {"input": X, "k": 2, "dim": 1}),
    (T.sort, (X, 1, True), {}, {"input": X, "dim": 1, "descending": True}),
    (torch.repeat_interleave, (X,), {"repeats": 2, "dim": 1}, {"input": X, "repeats": 2, "dim": 1}),
    (T.repeat_interleave, (X, 2, 1), {}, {"input": X, "repeats": 2, "dim": 1}),
    (T.split, (X, 2), {"dim": 1}, {"input": X, "split_size": 2, "dim": 1}),
    (torch.split, (X, [1, 2], 1), {}, {"input": X, "split_size": [1, 2], "dim": 1}),
    (torch.split, (), {"tensor": X, "split_size_or_sections": 2}, {"input": X, "split_size": 2}),
    (torch.split_with_sizes, (X, [1, 2], 1), {}, {"input": X, "split_sizes": [1, 2], "dim": 1}),
    (torch.tensor_split, (X, 3, 1), {}, {"input": X, "indices_or_sections": 3, "dim": 1}),
    (torch.tensor_split, (X,), {"indices": [1]}, {"input": X, "indices_or_sections": [1]}),
    (T.chunk, (X, 2, 1), {}, {"input": X, "chunks": 2, "dim": 1}),
    (T.narrow, (X, 1, 0, 2), {}, {"input": X, "dim": 1, "start": 0, "length": 2}),
    (T.select, (X, 1, 0), {}, {"input": X, "dim": 1, "index": 0}),
    (T.unfold, (X, 1, 2, 1), {}, {"input": X, "dimension": 1, "size": 2, "step": 1}),
    (T.movedim, (X, 0, 1), {}, {"input": X, "source": 0, "destination": 1}),
    (T.gather, (X, 1, X), {}, {"input": X, "dim": 1, "index": X}),
    (T.scatter_, (X, 1, X, 0.5), {}, {"input": X, "dim": 1, "index": X, "value": 0.5}),
    (T.scatter_, (X, 1, X, X), {}, {"input": X, "dim": 1, "index": X, "src": X}),
    (T.where, (X, X > 0, 1), {}, {"input": X, "other": 1}),
    (torch.where, (X, X, 1), {}, {"condition": X, "input": X, "other": 1}),
    (T.masked_fill, (X, X, 0.0), {}, {"input": X, "mask": X, "value": 0.0}),
    (torch.baddbmm, (X, X, X), {"beta": 0}, {"input": X, "batch1": X, "batch2": X, "beta": 0}),
    (T.to, (X, torch.half), {}, {"input": X, "dtype": torch.half}),
    (T.to, (X, "cpu", torch.half), {}, {"input": X, "device": "cpu", "dtype": torch.half}),
    (T.to, (X, X), {}, {"input": X, "other": X}),
    (torch.arange, (5,), {}, {"end": 5}),
    (torch.arange, (1, 5), {}, {"start": 1, "end": 5}),
    (torch.arange, (1, 5, 2), {}, {"start": 1, "end": 5, "step": 2}),
    (torch.linspace, (0, 1, 5), {}, {"start": 0, "end": 1, "steps": 5}),
    (torch.batch_norm, (X, X, X, X, X, True, 0.1, 1e-5, False), {}, {"running_mean": X, "training": True}),
    (torch.embedding, (X, X), {}, {"weight": X, "input": X}),
    (T.__getitem__, (X, (0, 1)), {}, {"input": X, "index": (0, 1)}),
    (T.__setitem__, (X, 0, 1.0), {}, {"input": X, "index": 0, "value": 1.0}),
    (T.T.__get__, (X,), {}, {"input": X}),
    (
        F.max_pool2d,
        (X, 2),
        {"return_indices": False},
        {"input": X, "kernel_size": 2, "return_indices": False},
    ),
    (F.gelu, (X,), {"approximate": "tanh"}, {"input": X, "approximate": "tanh"}),
    (F.scaled_dot_product_attention, (X, X, X), {"scale": 1}, {"query": X, "key": X, "value": X, "scale": 1}),
    (torch.lstm, (X, [X], [X], True, 1), {}, {"input": X, "hx": [X], "params": [X], "num_layers": 1}),
    (torch.lstm, (X, X, [X], [X], True, 1), {}, {"data": X, "batch_sizes": X, "hx": [X], "num_layers": 1}),
    (torch.ops.aten.add, (X, X), {}, {"input": X, "other": X}),
    (torch.ops.aten.view.default, (X, [6]), {}, {"input": X, "shape": [6]}),
    (SwiGLU, (X,), {}, {"x": X}),
    (Double, (X, 3), {}, {"x": X, "by": 3}),
    (len, (X, 3), {"key": 1}, {"arg0": X, "arg1": 3, "key": 1}),
]


def _same(a, b):
    return a is b or (not isinstance(a, T) and type(a) is type(b) and repr(a) == repr(b))


@pytest.mark.parametrize("target, args, kwargs, meant", CALLS, ids=lambda v: getattr(v, "__name__", ""))
def test_bind(target, args, kwargs, meant):
    """Arguments get the names that the documentation gives them; nothing is filled in."""
    bound = bind(target, args, kwargs)
    assert len(bound) <= len(args) + len(kwargs)
    for name, value in meant.items():
        assert _same(bound[name], value), name


def test_sizes_given_one_by_one_keep_their_kind():
    """Integers that remember where they came from stay what they are."""
    size = type("SizeInt", (int,), {})(3)
    assert bind(T.view, (X, size, 2))["shape"][0] is size
    assert bind(T.expand, (X, size))["size"][0] is size


def test_argument_names():
    """All names a callable has, keyword-only ones included; ``None`` where nobody knows."""
    assert argument_names(torch.conv2d) == (
        "input",
        "weight",
        "bias",
        "stride",
        "padding",
        "dilation",
        "groups",
    )
    assert {"dim", "other", "keepdim"} < set(argument_names(torch.max))
    assert "enable_gqa" in argument_names(F.scaled_dot_product_attention)
    assert argument_names(F.multi_head_attention_forward)[:3] == ("query", "key", "value")
    assert argument_names(len) is None
