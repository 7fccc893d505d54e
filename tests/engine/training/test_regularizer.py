"""Sparse training: what a regularizer adds to the gradients, compared with sums written out by hand."""

import pytest
import torch
from prunus import PlanError, engine
from torch import nn
from torch.nn import functional as F


class Net(nn.Module):
    """A residual stream of 6 channels with batch norms, and a classifier."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 6, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(6)
        self.conv2 = nn.Conv2d(6, 6, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(6)
        self.head = nn.Linear(6, 4)

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        x = x + self.bn2(self.conv2(x))
        return self.head(x.mean((2, 3)))


class Attention(nn.Module):
    """Self-attention of 3 heads of 4, the weight of query, key and value in one."""

    def __init__(self):
        super().__init__()
        self.heads = 3
        self.qkv = nn.Linear(5, 36)
        self.out = nn.Linear(12, 5)

    def forward(self, x):
        n, l, _ = x.shape
        q, k, v = self.qkv(x).view(n, l, 3, self.heads, 4).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v)
        return self.out(y.transpose(1, 2).flatten(2))


X = torch.randn(4, 3, 5, 5)
TOKENS = torch.randn(2, 3, 5)


@pytest.fixture
def net():
    """A net whose scales differ from one, and whose gradients are zero."""
    model = Net()
    for norm in (model.bn1, model.bn2):
        nn.init.normal_(norm.weight)
    return zero_gradients(model)


def zero_gradients(model):
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    return model


def added(model, x, *args, **options):
    """What one step adds to zero gradients, by name."""
    engine.Regularizer(engine.analyze(model, x), *args, **options).step()
    return {name: one.grad for name, one in model.named_parameters() if one.grad.any()}


def gammas(norms, alpha=4.0):
    return 2 ** (alpha * (norms.max() - norms) / (norms.max() - norms.min()))


def squares(model):
    """The squared norm of each of the six channels in each weight of the residual stream."""
    return {
        "conv1.weight": model.conv1.weight.square().sum((1, 2, 3)),
        "bn1.weight": model.bn1.weight.square(),
        "conv2.weight": model.conv2.weight.square().sum((1, 2, 3))
        + model.conv2.weight.square().sum((0, 2, 3)),
        "bn2.weight": model.bn2.weight.square(),
        "head.weight": model.head.weight.square().sum(0),
    }


def test_group_sparsity_is_the_papers_equation(net):
    """Every member of a group gets strength x gamma x w, gamma from the norm over all members."""
    gamma = gammas(sum(squares(net).values())).detach()
    found = added(net, X, strength=0.1)
    w = net.conv2.weight
    expected = {
        "conv1.weight": gamma.view(6, 1, 1, 1) * net.conv1.weight,
        "bn1.weight": gamma * net.bn1.weight,
        "conv2.weight": (gamma.view(6, 1, 1, 1) + gamma.view(1, 6, 1, 1)) * w,
        "bn2.weight": gamma * net.bn2.weight,
        "head.weight": gamma * net.head.weight,
    }
    assert set(found) == set(expected)
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], 0.1 * gradient)


def test_group_sparsity_is_half_the_gradient_of_the_penalty(net):
    """With gamma held constant, autograd's gradient of sum gamma I is twice what is added."""
    norms = sum(squares(net).values())
    penalty = (gammas(norms).detach() * norms).sum()
    expected = dict(
        zip(
            dict(net.named_parameters()), torch.autograd.grad(penalty, [*net.parameters()], allow_unused=True)
        )
    )
    for name, gradient in added(net, X, strength=1.0).items():
        torch.testing.assert_close(2 * gradient, expected[name])


def test_layer_sparsity_compares_within_each_weight(net):
    """Without grouping each weight has gammas of its own."""
    expected = {
        "conv1.weight": gammas(squares(net)["conv1.weight"]).view(6, 1, 1, 1) * net.conv1.weight,
        "bn2.weight": gammas(squares(net)["bn2.weight"]) * net.bn2.weight,
        "head.weight": gammas(squares(net)["head.weight"]) * net.head.weight,
    }
    found = added(net, X, "layer", strength=1.0)
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient)


def test_scales_alone_get_their_sign(net):
    """Network slimming touches the weights of batch norms and nothing else."""
    found = added(net, X, "bn_scale", strength=0.2)
    assert set(found) == {"bn1.weight", "bn2.weight"}
    torch.testing.assert_close(found["bn1.weight"], 0.2 * net.bn1.weight.sign().detach())


def test_growing_regularisation_grows_on_the_weakest_slots(net):
    """The weaker half is pressed, every two steps harder, up to the ceiling; the rest is left alone."""
    norms = sum(squares(net).values())
    weak = norms < norms.sort().values[3]
    regularizer = engine.Regularizer(engine.analyze(net, X), "growing", strength=0.1, every=2, ceiling=0.25)
    strengths = []
    for _ in range(7):
        zero_gradients(net)
        regularizer.step()
        strengths.append((net.bn1.weight.grad / net.bn1.weight).detach())
    for found, expected in zip(strengths, [0.1, 0.1, 0.2, 0.2, 0.25, 0.25, 0.25]):
        torch.testing.assert_close(found, expected * weak)


def test_growing_goes_on_from_its_state(net):
    """A regularizer that is given the state of another continues with its slots and strength."""
    graph = engine.analyze(net, X)
    first, second = (engine.Regularizer(graph, "growing", every=1) for _ in range(2))
    for _ in range(3):
        first.step()
    with torch.no_grad():
        net.conv1.weight.copy_(net.conv1.weight.flip(0))
    second.load_state_dict(first.state_dict())
    gradients = []
    for regularizer in (first, second):
        zero_gradients(net)
        regularizer.step()
        gradients.append(net.conv1.weight.grad)
    assert torch.equal(*gradients)


def test_heads_are_slots_of_a_product():
    """A head's norm is over all its query, key, value and output entries, each counted once."""
    model = zero_gradients(Attention())
    qkv, out = model.qkv.weight.view(3, 3, 4, 5), model.out.weight.view(5, 3, 4)
    gamma = gammas(qkv.square().sum((0, 2, 3)) + out.square().sum((0, 2)))
    found = added(model, TOKENS, strength=1.0)
    torch.testing.assert_close(found["qkv.weight"], (gamma.view(1, 3, 1, 1) * qkv).reshape(36, 5).detach())
    torch.testing.assert_close(found["out.weight"], (gamma.view(1, 3, 1) * out).reshape(5, 12).detach())


class Concatenated(nn.Module):
    """Two convolutions side by side, and a norm over both."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 5, 1)
        self.norm = nn.BatchNorm2d(9)
        self.head = nn.Conv2d(9, 2, 1)

    def forward(self, x):
        return self.head(self.norm(torch.cat([self.a(x), self.b(x)], 1)))


def test_an_axis_that_holds_several_groups():
    """After a concatenation each part of an axis is pressed with its own group."""
    model = zero_gradients(Concatenated())
    reads = model.head.weight.square().sum((0, 2, 3)) + model.norm.weight.square()
    gamma = torch.cat(
        [
            gammas(model.a.weight.square().sum((1, 2, 3)) + reads[:4]),
            gammas(model.b.weight.square().sum((1, 2, 3)) + reads[4:]),
        ]
    ).detach()
    found = added(model, X, strength=1.0)
    torch.testing.assert_close(found["norm.weight"], gamma * model.norm.weight.detach())
    torch.testing.assert_close(found["a.weight"], gamma[:4].view(4, 1, 1, 1) * model.a.weight.detach())
    torch.testing.assert_close(found["head.weight"], gamma.view(1, 9, 1, 1) * model.head.weight.detach())


def test_a_tied_weight_is_counted_once():
    """An embedding that is also the classifier is one tensor, with one term."""

    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = nn.Embedding(7, 4)
            self.head = nn.Linear(4, 7, bias=False)
            self.head.weight = self.embed.weight

        def forward(self, tokens):
            return self.head(self.embed(tokens))

    model = zero_gradients(Tied())
    gamma = gammas(model.embed.weight.square().sum(0)).detach()
    found = added(model, torch.randint(7, (2, 3)), strength=1.0)
    torch.testing.assert_close(found["embed.weight"], gamma * model.embed.weight.detach())


def test_patterns_choose_groups_and_strengths():
    """`skip` and `only` leave groups alone, `strengths` gives some another strength."""
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 2))
    x = torch.randn(2, 3)
    whole = added(zero_gradients(model), x, strength=1.0)
    assert set(added(zero_gradients(model), x, skip="2.out")) == {"0.weight", "2.weight"}
    assert set(added(zero_gradients(model), x, only=["2.out"])) == {"2.weight", "4.weight"}
    mixed = added(zero_gradients(model), x, strength=1.0, strengths={"0.out": 0.5})
    torch.testing.assert_close(mixed["0.weight"], 0.5 * whole["0.weight"])
    torch.testing.assert_close(mixed["4.weight"], whole["4.weight"])


def test_equal_slots_are_pressed_alike():
    """Where all norms are the same, gamma is one and not a division by zero."""
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    for parameter in model.parameters():
        nn.init.ones_(parameter)
    found = added(zero_gradients(model), torch.randn(2, 3), strength=0.1)
    torch.testing.assert_close(found["0.weight"], torch.full((4, 3), 0.1))


def test_weights_without_gradient_are_left_alone(net):
    """A frozen weight gets no gradient, but counts in the norms of its slots."""
    expected = added(net, X, strength=1.0)["conv1.weight"].clone()
    zero_gradients(net).head.weight.requires_grad_(False)
    net.head.weight.grad = None
    engine.Regularizer(engine.analyze(net, X), strength=1.0).step()
    assert net.head.weight.grad is None
    torch.testing.assert_close(net.conv1.weight.grad, expected)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_gradients_keep_their_dtype(net, dtype):
    """Norms are taken in float32 at least; the gradient stays in the parameter's own type."""
    expected = {name: one.clone() for name, one in added(net, X, strength=0.1).items()}
    zero_gradients(net.to(dtype))
    found = added(net, X.to(dtype), strength=0.1)
    for name, gradient in expected.items():
        assert found[name].dtype == dtype
        torch.testing.assert_close(found[name].float(), gradient, rtol=0.05, atol=1e-3)


def train(model, run, regularizer, optimizer_class, clip=None, steps=4):
    torch.manual_seed(0)
    optimizer = optimizer_class(model.parameters(), lr=0.01)
    for _ in range(steps):
        x, y = torch.randn(8, 3, 5, 5), torch.randint(4, (8,))
        optimizer.zero_grad()
        F.cross_entropy(run(x), y).backward()
        regularizer.step()
        if clip:
            nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()
    return [one.detach() for one in model.parameters()]


@pytest.mark.parametrize("kind", ["group", "layer", "bn_scale", "growing"])
def test_weakest_slots_shrink_in_training(kind):
    """After some steps of sparse training the weakest slot weighs less than after training without."""

    def weakest(strength):
        torch.manual_seed(0)
        model = Net()
        nn.init.uniform_(model.bn1.weight)
        regularizer = engine.Regularizer(engine.analyze(model, X), kind, strength)
        train(model, model, regularizer, torch.optim.SGD, steps=30)
        return (
            model.bn1.weight.detach().abs().min()
            if kind == "bn_scale"
            else sum(squares(model).values()).min()
        )

    assert weakest(0.3) < 0.95 * weakest(0.0)


@pytest.mark.parametrize(
    ("backend", "optimizer"), [("eager", torch.optim.SGD), ("aot_eager", torch.optim.AdamW)]
)
def test_a_compiled_model_is_trained_alike(backend, optimizer):
    """The model or the regularizer's step may be compiled: the weights come out as without."""
    torch._dynamo.reset()
    results = []
    for compile_model, compile_step in ((False, False), (True, False), (False, True)):
        torch.manual_seed(0)
        model = Net()
        regularizer = engine.Regularizer(engine.analyze(model, X), strength=0.01)
        run = torch.compile(model, backend=backend) if compile_model else model
        if compile_step:
            regularizer.step = torch.compile(regularizer.step, backend=backend)
        results.append(train(model, run, regularizer, optimizer, clip=1.0))
    for result in results[1:]:
        torch.testing.assert_close(result, results[0])


def test_a_pruned_model_must_be_analysed_again(net):
    """The old regularizer says so, and changes nothing; a new one goes on."""
    regularizer = engine.Regularizer(engine.analyze(net, X))
    engine.prune(net, example_inputs=X)
    zero_gradients(net)
    with pytest.raises(
        PlanError, match=r"conv1\.weight had the shape \(6, 3, 3, 3\).*\(3, 3, 3, 3\).*analyse"
    ):
        regularizer.step()
    assert not any(parameter.grad.any() for parameter in net.parameters())
    assert added(net, X)


def test_sparse_gradients_are_refused(net):
    """What is added has entries everywhere: the message says what to do."""
    net.head.weight.grad = net.head.weight.grad.to_sparse()
    with pytest.raises(PlanError, match=r"the gradient of head\.weight is sparse: make it dense"):
        engine.Regularizer(engine.analyze(net, X)).step()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "lasso"}, "known are group, layer, bn_scale, growing"),
        ({"alpha": -1}, "alpha is a number from 0 up, not -1"),
        ({"every": 3}, "'group' has no option 'every', only alpha"),
        ({"kind": "bn_scale", "alpha": 3}, "has no option 'alpha', none"),
        ({"kind": "growing", "ratio": 1}, "ratio is a fraction between 0 and 1, not 1"),
        ({"kind": "growing", "every": 2.5}, "every is a whole number from 1 up, not 2.5"),
        ({"strength": -0.1}, "a strength is a number from 0 up, not -0.1"),
        ({"strength": "much"}, "a strength is a number"),
        ({"strengths": {"nothing": 1}}, "strengths: no group, kind or module fits 'nothing'"),
        ({"skip": "nothing"}, "skip: no group, kind or module fits 'nothing'"),
        ({"skip": "*"}, "nothing for ByGroup.* to press"),
    ],
)
def test_bad_options_are_told(net, options, message):
    """One clear error that says what would be right."""
    with pytest.raises(PlanError, match=message):
        engine.Regularizer(engine.analyze(net, X), **options)


def test_a_model_without_scales_has_nothing_to_press():
    """L1 on scales needs scales."""
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    with pytest.raises(PlanError, match="no group that may be pruned has such weights"):
        engine.Regularizer(engine.analyze(model, torch.randn(2, 3)), "bn_scale")


def test_it_prints_what_it_does(net):
    """Kind, strength, slots, groups and weights in one line."""
    text = str(engine.Regularizer(engine.analyze(net, X), strength=0.01))
    assert text == "ByGroup(alpha=4.0), strength 0.01, on 6 slots of 1 groups in 5 weights"


@pytest.mark.parametrize(
    "state",
    [
        None,
        [],
        {"steps": 1},
        {"steps": -1, "chosen": None},
        {"steps": True, "chosen": None},
        {"steps": 1.5, "chosen": None},
        {"steps": 1, "chosen": [True]},
        {"steps": 1, "chosen": torch.ones(1, dtype=torch.bool)},
        {"steps": 1, "chosen": torch.ones(14)},
        {"steps": 1, "chosen": None, "more": 1},
    ],
)
def test_a_state_that_is_none_is_refused(state):
    """It may come from a file of another model."""
    model = nn.Sequential(nn.Linear(3, 14), nn.ReLU(), nn.Linear(14, 2))
    regularizer = engine.Regularizer(engine.analyze(model, torch.randn(2, 3)), "growing", 0.1)
    before = str(regularizer)
    with pytest.raises(PlanError):
        regularizer.load_state_dict(state)
    assert str(regularizer) == before
