"""Analysing leaves no trace, and a call that fails leaves the model bit for bit as it was."""

from __future__ import annotations

import random

import numpy
import pytest
import torch
from prunus import engine
from prunus.errors import PlanError, PrunusError, RuleError, RuleSyntaxError, TraceError, VerificationError
from torch import Tensor, nn
from torch.nn import functional as F

# --- the snapshot ------------------------------------------------------------------------------------------


class Snapshot:
    """All that a model and the process around it are made of, by path, values and identities.

    The objects themselves are kept alive, so that an identity cannot pass to another object.
    """

    def __init__(self, model: nn.Module) -> None:
        self.facts: dict[str, object] = {}
        self.alive: list[object] = []
        self.seen: set[int] = set()
        self.record("model", model)
        for module in {type(module) for module in model.modules()} | {Tensor, nn.Module}:
            self.names(f"class {module.__qualname__}", vars(module))
        for namespace in (torch, F, torch.nn.init):
            self.names(namespace.__name__, vars(namespace))
        self.facts |= process()

    def record(self, path: str, value: object) -> None:
        """One value and, once for each object, what is inside of it."""
        self.alive.append(value)
        inside = children(value)
        plain = inside is None and not isinstance(value, Tensor)
        simple = isinstance(value, (int, float, str, bytes, bool, type(None), torch.dtype, torch.device))
        self.facts[path] = (type(value), repr(value)) if plain and simple else (type(value), id(value))
        if id(value) in self.seen and not simple:
            return
        self.seen.add(id(value))
        if isinstance(value, Tensor):
            self.facts[f"{path} tensor"] = tensor_facts(value)
            self.record(f"{path}.grad", value.grad)
        for name, child in (inside or {}).items():
            self.record(f"{path}.{name}", child)
        if inside is not None:
            self.facts[f"{path} names"] = list(inside)

    def names(self, path: str, namespace) -> None:
        """Which function each name of a class or module stands for: patches show here."""
        functions = {name: value for name, value in namespace.items() if callable(value)}
        self.alive.extend(functions.values())
        self.facts[path] = {name: id(value) for name, value in functions.items()}

    def changes(self, model: nn.Module) -> list[str]:
        """The paths whose facts are not what they were."""
        now = Snapshot(model).facts
        return [path for path in self.facts | now if self.facts.get(path) != now.get(path)]


def children(value: object) -> dict[object, object] | None:
    """What is inside of a container or of an object with attributes; None for what has no inside."""
    if isinstance(value, dict):
        return {f"[{key!r}]": item for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return dict(enumerate(value))
    if isinstance(value, (set, frozenset)):
        return {f"<{item!r}>": item for item in value}
    if isinstance(value, (Tensor, type)) or (callable(value) and not isinstance(value, nn.Module)):
        return None
    return dict(vars(value)) if hasattr(value, "__dict__") else None


def tensor_facts(tensor: Tensor) -> tuple:
    """Shape, dtype, flags and bytes of a tensor."""
    raw = tensor.detach().contiguous().flatten().view(torch.uint8).numpy().tobytes()
    return tensor.shape, tensor.stride(), tensor.dtype, tensor.device, tensor.requires_grad, raw


def process() -> dict[str, object]:
    """The process's switches and random number generators."""
    return {
        "torch rng": torch.get_rng_state().numpy().tobytes(),
        "python rng": random.getstate(),
        "numpy rng": str(numpy.random.get_state()),
        "grad mode": torch.is_grad_enabled(),
        "inference mode": torch.is_inference_mode_enabled(),
        "fast attention": torch.backends.mha.get_fastpath_enabled(),
        "default dtype": torch.get_default_dtype(),
        "threads": torch.get_num_threads(),
        "function modes": torch._C._len_torch_function_stack(),
        "dispatch modes": torch._C._len_torch_dispatch_stack(),
    }


# --- a model with everything that could be left behind -----------------------------------------------------


class Config:
    """A configuration that modules hold, with numbers in every kind of container."""

    def __init__(self) -> None:
        self.hidden_size = 24
        self.sizes = [24, 20]
        self.table = {"heads": 4, "deep": {"window": (3, 3)}}
        self.name = "rich"
        self.rate = 0.5


class Rich(nn.Module):
    """Convolution, batch norm, dropout, attention and a recurrent layer, with numbers all over."""

    def __init__(self) -> None:
        super().__init__()
        self.config = Config()
        self.heads, self.flag, self.shape = 4, True, (24, 4)
        self.enter = nn.Linear(7, 24)
        self.norm = nn.BatchNorm1d(24)
        self.qkv = nn.Linear(24, 72)
        self.mha = nn.MultiheadAttention(24, 4, batch_first=True)
        self.rnn = nn.GRU(24, 20, batch_first=True)
        self.drop = nn.Dropout(0.5)
        self.out = nn.Linear(20, 3)
        self.register_buffer("gain", torch.rand(20), persistent=False)
        self.norm.eval()
        self.out.bias.requires_grad_(False)
        self.qkv.register_forward_hook(lambda module, inputs, output: None)
        self.enter.register_full_backward_hook(lambda module, inputs, outputs: None)

    def forward(self, x: Tensor) -> Tensor:
        n, l, _ = x.shape
        x = self.norm(self.enter(x).transpose(1, 2)).transpose(1, 2)
        size = self.config.hidden_size // self.config.table["heads"]
        parts = self.qkv(self.drop(x)).view(n, l, 3, self.heads, size).permute(2, 0, 3, 1, 4)
        x = x + F.scaled_dot_product_attention(*parts.unbind(0)).transpose(1, 2).reshape(n, l, self.shape[0])
        x = x + self.mha(x, x, x)[0]
        noise = torch.randn(n, l, 1)
        return self.out(self.rnn(x + 0 * noise)[0] * self.gain)


def rich() -> nn.Module:
    """The model in training mode, with gradients, as after a step of training."""
    model = Rich()
    model(torch.randn(2, 5, 7)).sum().backward()
    return model


X = torch.randn(2, 5, 7)


def fails(model: nn.Module, kind: type[PrunusError], call) -> str:
    """Assert that ``call`` raises this error, in a sentence, and changes nothing; the message."""
    before = Snapshot(model)
    with pytest.raises(kind) as caught:
        call()
    assert before.changes(model) == []
    assert type(caught.value) is kind
    message = str(caught.value)
    first = message.strip().split("\n")[0]
    assert 12 <= len(first) <= 300 and " " in first, message
    for noise in ("Traceback", "object at 0x", "<class", "SizeInt"):
        assert noise not in message
    return message


# --- calls that succeed ------------------------------------------------------------------------------------


def test_the_snapshot_sees_what_it_is_for():
    """A changed number, type, tensor, flag, hook or random state is a change."""
    model = rich()
    before = Snapshot(model)
    assert before.changes(model) == []
    changes = [
        lambda: setattr(model, "heads", 5),
        lambda: setattr(model, "heads", True),
        lambda: model.config.sizes.append(1),
        lambda: model.config.table["deep"].update(window=(3, 2)),
        lambda: model.out.bias.data.add_(1e-7),
        lambda: setattr(model.qkv, "weight", nn.Parameter(model.qkv.weight.detach().clone())),
        lambda: model.enter.weight.grad.zero_(),
        lambda: model.norm.train(),
        lambda: model.out.register_forward_hook(print),
        lambda: torch.rand(1),
        lambda: model.gain.mul_(2),
    ]
    for change in changes:
        before = Snapshot(model)
        change()
        assert before.changes(model) != []


def test_analyze_leaves_no_trace():
    """After ``analyze`` the model, its gradients and the random numbers are what they were."""
    model = rich()
    before = Snapshot(model)
    graph = engine.analyze(model, X)
    assert before.changes(model) == []
    graph.choose(ratio=0.5)
    assert [path for path in before.changes(model) if "rng" not in path] == []


def test_a_dry_run_leaves_no_trace():
    """``dry_run=True`` plans and touches nothing."""
    model = rich()
    before = Snapshot(model)
    engine.prune(model, example_inputs=X, dry_run=True)
    assert before.changes(model) == []


def test_what_the_forward_wrote_is_put_back():
    """A number or a list that the forward itself stores is what it was before."""

    class Counting(nn.Module):
        def __init__(self):
            super().__init__()
            self.hidden, self.out = nn.Linear(7, 16), nn.Linear(16, 3)
            self.width, self.seen = 0, []

        def forward(self, x):
            x = F.relu(self.hidden(x))
            self.width = x.shape[-1]
            self.seen = [x.shape[0], (x.shape[-1], self.out.in_features)]
            return self.out(x)

    model = Counting()
    engine.analyze(model, torch.randn(2, 7))
    assert model.width == 0 and type(model.width) is int
    assert model.seen == []


def test_pruning_keeps_what_it_does_not_change():
    """After a real pruning: same parameters, hooks, flags, plain numbers, and gradients of the new shapes."""
    model = rich()
    kept = dict(model.named_parameters())
    flags = {name: module.training for name, module in model.named_modules()}
    frozen = {name: parameter.requires_grad for name, parameter in kept.items()}
    graded = {name for name, parameter in kept.items() if parameter.grad is not None}
    before = process()
    engine.prune(model, example_inputs=X)
    assert process() == before
    assert {name: module.training for name, module in model.named_modules()} == flags
    for name, parameter in model.named_parameters():
        assert parameter is kept[name] and parameter.requires_grad == frozen[name]
        assert (parameter.grad is not None) == (name in graded)
        assert parameter.grad is None or parameter.grad.shape == parameter.shape
    assert graded and len(model.qkv._forward_hooks) == 1 and len(model.enter._backward_hooks) == 1
    for module in model.modules():
        for name, value in vars(module).items():
            assert not isinstance(value, int) or type(value) in (int, bool), name
    model(X).sum().backward()


# --- calls that fail ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "error", "word"),
    [
        ("conv input[n c] -> [n c]\n", RuleSyntaxError, "conv"),
        ("relu: in <-> \n", RuleSyntaxError, "relu"),
        ("mine = torch.no_such_operation\nmine: in <-> out\n", RuleError, "no_such_operation"),
        ("mine = torch.relu\nmine: inptu[*x] -> [*x]\n", RuleError, "inptu"),
        ("use nonsense\n", RuleError, "nonsense"),
        ("mine = torch.relu\nmine: frobnicate(in)\n", PrunusError, "frobnicate"),
    ],
)
def test_a_bad_rule_file(tmp_path, text, error, word):
    """Rules that cannot be read or meant are said so before the model is looked at."""
    path = tmp_path / "mine.rules"
    path.write_text(text)
    model = rich()
    before = Snapshot(model)
    with pytest.raises(error, match=word) as caught:
        engine.prune(model, rules=["default", str(path)], example_inputs=X)
    assert before.changes(model) == []
    assert "mine.rules" in str(caught.value)


def test_a_rule_file_that_is_not_there():
    model = rich()
    fails(model, RuleError, lambda: engine.prune(model, rules="nowhere.rules", example_inputs=X))


def test_inputs_of_the_wrong_shape():
    model = rich()
    x = torch.randn(2, 5, 8)
    fails(model, TraceError, lambda: engine.prune(model, example_inputs=x))


def test_too_many_inputs():
    model = rich()
    fails(model, TraceError, lambda: engine.prune(model, example_inputs=(X, X)))


def test_a_forward_that_raises():
    """However deep in the model, and after it has written attributes."""
    model = rich()
    model.rnn.register_forward_pre_hook(lambda module, inputs: 1 / 0)
    message = fails(model, TraceError, lambda: engine.analyze(model, X))
    assert "division by zero" in message


def test_a_forward_that_is_interrupted():
    """Ctrl-C passes through, and all is put back."""

    def interrupt(module, inputs):
        raise KeyboardInterrupt

    model = rich()
    model.rnn.register_forward_pre_hook(interrupt)
    before = Snapshot(model)
    with pytest.raises(KeyboardInterrupt):
        engine.analyze(model, X)
    assert before.changes(model) == []


@pytest.mark.parametrize(
    "options",
    [
        {"ratio": 1.5},
        {"ratio": -0.1},
        {"criterion": "no such criterion"},
        {"prefer": "sideways"},
        {"round_to": 0},
        {"ratios": {"no.such.group": 0.5}},
    ],
    ids=str,
)
def test_an_option_that_cannot_be_meant(options):
    model = rich()
    fails(model, PlanError, lambda: engine.prune(model, example_inputs=X, **options))


def first_free(graph):
    """A group that could be pruned."""
    return next(group for group in graph.groups if group.producers)


@pytest.mark.parametrize(
    "slots",
    [
        lambda size: [0, size],
        lambda size: [-1, 0],
        lambda size: [],
        lambda size: [0, 0, 1],
        lambda size: [0.5],
        lambda size: "all",
    ],
    ids=["out of range", "negative", "empty", "twice", "fractions", "text"],
)
def test_slots_that_cannot_be_kept(slots):
    model = rich()
    graph = engine.analyze(model, X)
    group = first_free(graph)
    message = fails(model, PlanError, lambda: graph.plan({group.name: slots(group.size)}))
    assert group.name in message


def test_a_group_that_does_not_exist():
    model = rich()
    graph = engine.analyze(model, X)
    message = fails(model, PlanError, lambda: graph.plan({"rnn.hh": [0, 1]}))
    assert "rnn.hh" in message


def test_a_group_that_is_blocked():
    model = rich()
    graph = engine.analyze(model, X)
    assert graph.blocked
    for group in graph.blocked[:3]:
        fails(model, PlanError, lambda group=group: graph.plan({group.name: [0]}))


def test_a_plan_of_another_model():
    """A plan names tensors and sizes; a model that has others is refused before anything is touched."""
    other = nn.Sequential(nn.Linear(7, 16), nn.ReLU(), nn.Linear(16, 3))
    plan = engine.prune(other, example_inputs=torch.randn(2, 7), dry_run=True).plan
    model = rich()
    fails(model, PlanError, lambda: engine.apply(model, plan))
    narrow = nn.Sequential(nn.Linear(7, 8), nn.ReLU(), nn.Linear(8, 3))
    fails(narrow, PlanError, lambda: engine.apply(narrow, plan))


def test_a_plan_applied_twice():
    model = rich()
    plan = engine.prune(model, example_inputs=X).plan
    fails(model, PlanError, lambda: engine.apply(model, plan))


class Stubborn(Rich):
    """Refuses the size that is chosen in the end, which it reads where no tracing can see it."""

    def forward(self, x: Tensor) -> Tensor:
        if str(self.rnn.hidden_size) == "10":
            raise ValueError("I do not want a state of 10")
        return super().forward(x)


class Shapeshifter(nn.Module):
    """Answers in another shape at the size chosen in the end, but not while it is traced."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden, self.out = nn.Linear(7, 16), nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.out(F.relu(self.hidden(x)))
        return y[:, :2] if str(self.hidden.out_features) == "8" and type(x.shape[0]) is int else y


def test_a_pruned_model_that_does_not_run_is_restored():
    model = Stubborn()
    model(X).sum().backward()
    message = fails(model, VerificationError, lambda: engine.prune(model, example_inputs=X))
    assert "I do not want a state of 10" in message


def test_a_pruned_model_of_other_output_shapes_is_restored():
    model, x = Shapeshifter(), torch.randn(2, 7)
    fails(model, VerificationError, lambda: engine.prune(model, example_inputs=x))


def test_a_failed_verification_restores_the_optimizer():
    """Momentum goes back with the parameters."""
    model = Stubborn()
    optimizer = torch.optim.Adam(model.parameters())
    model(X).sum().backward()
    optimizer.step()
    moments = {
        key: {name: value.clone() for name, value in state.items()} for key, state in optimizer.state.items()
    }
    fails(model, VerificationError, lambda: engine.prune(model, example_inputs=X, optimizer=optimizer))
    assert moments and optimizer.state.keys() == moments.keys()
    for key, state in optimizer.state.items():
        assert state.keys() == moments[key].keys()
        assert all(torch.equal(value, moments[key][name]) for name, value in state.items())


def test_nobody_knows_the_inputs():
    """A model that cannot be guessed asks for ``example_inputs``."""

    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.hidden, self.out = nn.Linear(7, 16), nn.Linear(16, 3)

        def forward(self, point, *, cloud):
            return self.out(F.relu(self.hidden(point @ cloud["matrix"])))

    model = Odd()
    message = fails(model, TraceError, lambda: engine.prune(model))
    assert "example_inputs" in message
