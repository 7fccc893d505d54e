"""Criteria of weights and gradients: each finds the slots that were planted for it, on any kind of member."""

import warnings

import pytest
import torch
from prunus import PlanError, engine
from prunus.engine.scoring.criteria import criterion_of
from prunus.engine.scoring.magnitude import Magnitude
from prunus.engine.scoring.slot_tensors import Tensors
from torch import nn
from torch.nn import functional as F

WEIGHTS = ["magnitude", "l1", "bn_scale", "lamp", "fpgm"]
GRADIENTS = ["taylor", "fisher"]
CHOSEN = [2, 3, 7]


class Chain(nn.Module):
    """One hidden layer with its own normalisation, and a head."""

    def __init__(self, norm=nn.BatchNorm1d):
        super().__init__()
        self.enter, self.norm, self.head = nn.Linear(6, 10), norm(10), nn.Linear(10, 4)

    def forward(self, x):
        return self.head(F.relu(self.norm(self.enter(x))))


class Heads(nn.Module):
    """Self-attention: an axis of heads x head size, three times in one packed projection."""

    def __init__(self, heads=4, size=3):
        super().__init__()
        self.heads = heads
        self.qkv, self.out = nn.Linear(6, 3 * heads * size), nn.Linear(heads * size, 5)

    def forward(self, x):
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


X = torch.randn(8, 6)
BATCHES = [(torch.randn(8, 6), torch.randint(4, (8,))) for _ in range(3)]


def loss(model, batch):
    return F.cross_entropy(model(batch[0]), batch[1])


def scores(model, criterion, group="enter.out", inputs=X, **given):
    graph = engine.analyze(model, inputs)
    return criterion_of(criterion)(graph.group(group), Tensors(graph, **given))


def lowest(found, count=3):
    return sorted(found.argsort()[:count].tolist())


def scale_slots(model, slots, factor):
    with torch.no_grad():
        model.enter.weight[slots] *= factor
        model.norm.weight[slots] *= factor
        model.head.weight[:, slots] *= factor


@pytest.mark.parametrize("criterion", ["magnitude", "l1", "bn_scale", "lamp", *GRADIENTS])
def test_small_slots_go(criterion):
    """Slots whose weights were made small have the lowest scores."""
    model = Chain()
    scale_slots(model, CHOSEN, 1e-3)
    assert lowest(scores(model, criterion, data=BATCHES, loss=loss)) == CHOSEN


def test_norms_are_those_of_all_weights_of_a_slot():
    """Rows, columns and scales are added up; biases are not; the mean is one."""
    model = Chain()
    nn.init.normal_(model.norm.weight)
    nn.init.constant_(model.enter.bias, 100)
    nn.init.constant_(model.norm.bias, 100)
    for criterion, power in (("magnitude", 2), ("l1", 1)):
        parts = [model.enter.weight.T, model.head.weight, model.norm.weight[None]]
        expected = torch.cat(parts).detach().abs().pow(power).sum(0)
        torch.testing.assert_close(scores(model, criterion), expected / expected.mean())


@pytest.mark.parametrize("norm", [nn.BatchNorm1d, nn.LayerNorm, nn.RMSNorm, lambda size: Scale(size)])
def test_scales_alone_decide_whatever_the_layer_is_called(norm):
    """Other weights are large where the scale is small, and yet these slots go."""
    model = Chain(norm)
    nn.init.uniform_(model.norm.weight, 0.5, 1.5)
    with torch.no_grad():
        model.norm.weight.view(-1)[CHOSEN] = -1e-3
        model.enter.weight[CHOSEN] *= 100
    expected = model.norm.weight.detach().flatten().abs()
    torch.testing.assert_close(scores(model, "bn_scale"), expected / expected.mean())


class Scale(nn.Module):
    """A scale of one number for each slot, by hand and with axes of size one."""

    def __init__(self, size):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1, size))

    def forward(self, x):
        return x * self.weight


def test_groups_without_scales_fall_back_to_magnitude():
    """A linear layer's own weights are no scales, however few inputs it has."""
    model = nn.Sequential(nn.Linear(1, 10), nn.ReLU(), nn.Linear(10, 1))
    found = [scores(model, criterion, "0.out", torch.randn(3, 1)) for criterion in ("bn_scale", "magnitude")]
    torch.testing.assert_close(*found)


def test_lamp_is_the_share_of_all_that_is_not_smaller():
    """With squares 1, 4, 9 and 16 the smallest has 1/30 of all; the largest is alone."""
    model = nn.Sequential(nn.Linear(1, 4), nn.Linear(4, 2))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[3.0], [1.0], [4.0], [2.0]]))
        model[1].weight.zero_()
    found = scores(model, "lamp", "0.out", torch.randn(3, 1))
    torch.testing.assert_close(found, torch.tensor([9 / 25, 1 / 30, 1, 4 / 29]))


def test_fpgm_removes_slots_that_others_can_stand_for():
    """Three slots that lie together in the middle of the others go, although they are the largest."""
    model = Chain()
    with torch.no_grad():
        model.enter.weight[CHOSEN] = 5 + 0.01 * torch.randn(3, 6)
        model.head.weight[:, CHOSEN] = 5.0
        others = [slot for slot in range(10) if slot not in CHOSEN]
        model.enter.weight[others] = 5 - 4 * torch.eye(7)[:, :6]
        model.head.weight[:, others] = 5 - torch.tensor([1.0, 2, 1, 2, 1, 2, 3])
    assert lowest(scores(model, "fpgm")) == CHOSEN
    assert lowest(-scores(model, "magnitude")) == CHOSEN


def test_fpgm_measures_the_distances_of_points():
    """The score is the sum of Euclidean distances between slots, all their weights being coordinates."""
    model = Chain()
    points = torch.cat([model.enter.weight, model.head.weight.T, model.norm.weight[:, None]], 1).detach()
    expected = torch.stack([(points - point).norm(dim=1).sum() for point in points])
    torch.testing.assert_close(scores(model, "fpgm"), expected / expected.mean())


@pytest.mark.parametrize("criterion", GRADIENTS)
def test_slots_without_influence_on_the_loss_go(criterion):
    """Their weights are the largest, but nothing gets past the normalisation and its activation."""
    model = Chain()
    scale_slots(model, CHOSEN, 10)
    with torch.no_grad():
        model.norm.bias[CHOSEN] = -1e4
    found = scores(model, criterion, data=BATCHES, loss=loss)
    assert lowest(found) == CHOSEN
    assert found[CHOSEN].tolist() == [0, 0, 0]


def expected_scores(model, criterion):
    """The formulas, written out for the hidden slots of `Chain`."""
    model.eval()
    weights = [model.enter.weight, model.norm.weight, model.head.weight]
    total = 0
    for batch in BATCHES:
        gradients = torch.autograd.grad(loss(model, batch), weights)
        for axis, (weight, gradient) in zip((0, 0, 1), zip(weights, gradients)):
            product = (weight * gradient).detach().movedim(axis, 0).reshape(10, -1)
            total += product.sum(1).abs() if criterion == "taylor" else product.square().sum(1)
    return total / total.mean()


@pytest.mark.parametrize("criterion", GRADIENTS)
def test_gradients_are_computed_from_data_and_loss(criterion):
    """Batch by batch in eval mode, as the formulas say."""
    model = Chain().train()
    found = scores(model, criterion, data=BATCHES, loss=loss)
    torch.testing.assert_close(found, expected_scores(model, criterion))


class OnlyForward(torch.autograd.Function):
    """Something without derivatives."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        raise RuntimeError("no kernel for this")


def test_gradients_that_cannot_be_computed_are_an_error():
    """It tells the batch, and what torch says."""
    model = Chain()
    with pytest.raises(PlanError, match=r"gradients of loss\(model, batch\) failed on batch 0: no kernel"):
        engine.prune(
            model,
            example_inputs=X,
            criterion="taylor",
            data=[X],
            loss=lambda model, batch: OnlyForward.apply(model(batch)).sum(),
        )


@pytest.mark.parametrize("criterion", GRADIENTS)
def test_gradients_of_a_backward_pass_are_taken(criterion):
    """`prune` alone does not run the model on any data; the gradients count as one batch."""
    model = Chain().eval()
    loss(model, BATCHES[0]).backward()
    expected = scores(model, criterion, data=BATCHES[:1], loss=loss)
    torch.testing.assert_close(scores(model, criterion), expected)
    kept = engine.prune(model, example_inputs=X, ratio=0.3, criterion=criterion).plan.groups["enter.out"]
    assert kept == sorted(expected.argsort(descending=True)[:7].tolist())


def test_data_and_loss_win_over_gradients_that_are_left():
    """Those of the last training step are not what was asked for."""
    model = Chain().eval()
    (1e3 * loss(model, BATCHES[0])).backward()
    expected = expected_scores(model, "fisher")
    torch.testing.assert_close(scores(model, "fisher", data=BATCHES, loss=loss), expected)


@pytest.mark.parametrize("criterion", GRADIENTS)
def test_gradients_leave_the_model_undisturbed(criterion):
    """Contents, gradients, modes, flags and random numbers are as before; frozen weights count, too."""
    model = nn.Sequential(nn.Linear(6, 10), nn.BatchNorm1d(10), nn.Dropout(0.5), nn.Linear(10, 4)).train()
    model[0].weight.requires_grad_(False)
    model[3].weight.grad = torch.ones(4, 10)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    random_state = torch.get_rng_state()
    graph = engine.analyze(model, X)
    tensors = Tensors(graph, BATCHES, loss)
    frozen = criterion_of(criterion)(graph.group("0.out"), tensors)
    assert torch.equal(torch.get_rng_state(), random_state)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert all(module.training for module in model.modules())
    assert [tensor.requires_grad for tensor in model.parameters()] == [False, *[True] * 5]
    assert [tensor.grad is not None for tensor in model.parameters()] == [*[False] * 4, True, False]
    assert torch.equal(model[3].weight.grad, torch.ones(4, 10))
    model[0].weight.requires_grad_(True)
    torch.testing.assert_close(scores(model, criterion, "0.out", data=BATCHES, loss=loss), frozen)


def test_gradients_are_computed_once_for_all_groups():
    """The loss is called once a batch, however many groups there are."""
    called = []

    def counted(model, batch):
        called.append(batch)
        return loss(model, batch)

    model = nn.Sequential(nn.Linear(6, 10), nn.ReLU(), nn.Linear(10, 8), nn.ReLU(), nn.Linear(8, 4))
    graph = engine.analyze(model, X)
    tensors = Tensors(graph, BATCHES, counted)
    for group in graph.groups:
        criterion_of("taylor")(group, tensors)
    assert len(graph.groups) == 2
    assert len(called) == len(BATCHES)


@pytest.mark.parametrize(
    "given, message",
    [
        ({}, "needs gradients: give data= and loss="),
        ({"data": BATCHES}, "needs gradients: give data= and loss="),
        ({"loss": loss}, "needs gradients: give data= and loss="),
        ({"data": [], "loss": loss}, "no batch"),
        ({"data": BATCHES, "loss": lambda model, batch: model(batch[0])}, r"a tensor of shape \(8, 4\)"),
        ({"data": BATCHES, "loss": lambda model, batch: 3.0}, "float 3.0"),
        ({"data": BATCHES, "loss": lambda model, batch: torch.ones(())}, "without a gradient"),
        ({"data": BATCHES, "loss": lambda model, batch: loss(model, batch) * float("nan")}, "nan on batch 0"),
        ({"data": ["text"], "loss": loss}, r"loss\(model, batch\) failed on batch 0"),
    ],
)
@pytest.mark.parametrize("criterion", GRADIENTS)
def test_without_usable_gradients_there_is_one_clear_error(criterion, given, message):
    """It says what to give, and the model stays as it was."""
    model = Chain().train()
    with pytest.raises(PlanError, match=message) as error:
        scores(model, criterion, **given)
    assert "\n" not in str(error.value)
    assert model.training and all(tensor.requires_grad for tensor in model.parameters())


@pytest.mark.parametrize("criterion", GRADIENTS)
def test_a_group_that_a_backward_pass_did_not_reach_is_no_guess(criterion):
    """Only the last layers were trained; nothing is known of the first."""
    model = nn.Sequential(nn.Linear(6, 10), nn.ReLU(), nn.Linear(10, 8), nn.ReLU(), nn.Linear(8, 4))
    for layer in (model[0], model[2]):
        layer.requires_grad_(False)
    model(X).square().sum().backward()
    assert scores(model, criterion, "2.out").isfinite().all()
    with pytest.raises(PlanError, match=r"no weight of 0\.out has a gradient"):
        scores(model, criterion, "0.out")


@pytest.mark.parametrize("criterion", ["magnitude", "l1", "lamp", *GRADIENTS])
def test_heads_are_scored_by_all_their_entries(criterion):
    """A head's rows lie in three places of the packed projection, its columns in one of the output's."""
    model = Heads().eval()
    inputs = torch.randn(2, 7, 6)
    with torch.no_grad():
        model.qkv.weight.view(3, 4, 3, 6)[:, 2] *= 1e-2
        model.out.weight.view(5, 4, 3)[:, 2] *= 1e-2
    data = [torch.randn(2, 7, 6) for _ in range(2)]
    graph = engine.analyze(model, inputs)
    (heads,) = [group for group in graph.groups if group.size == 4]
    tensors = Tensors(graph, data, lambda model, batch: model(batch).square().mean())
    found = criterion_of(criterion)(heads, tensors)
    assert found.shape == (4,)
    assert found.argmin() == 2
    if criterion == "magnitude":
        rows = model.qkv.weight.detach().view(3, 4, 18).square().sum((0, 2))
        rows = rows + model.out.weight.detach().view(5, 4, 3).square().sum((0, 2))
        torch.testing.assert_close(found, rows / rows.mean())


def test_kernels_of_one_slot_each_can_count():
    """A depthwise kernel of zeros removes its slot only if such kernels count."""
    model = nn.Sequential(
        nn.Conv2d(1, 8, 1), nn.Conv2d(8, 8, 3, groups=8), nn.BatchNorm2d(8), nn.Conv2d(8, 2, 1)
    )
    nn.init.constant_(model[0].weight, 1.0)
    nn.init.constant_(model[3].weight, 1.0)
    nn.init.constant_(model[1].weight, 2.0)
    with torch.no_grad():
        model[1].weight[5] = 0
    inputs = torch.randn(1, 1, 6, 6)
    assert scores(model, Magnitude(own_kernels=True), "0.out", inputs).argmin() == 5
    torch.testing.assert_close(scores(model, "magnitude", "0.out", inputs), torch.ones(8))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("criterion", ["magnitude", "l1", "bn_scale", "lamp", "fpgm", *GRADIENTS])
def test_half_precision_is_accumulated_in_single(criterion, dtype):
    """Sums that half precision cannot hold, and differences that it would round away."""
    model = nn.Sequential(nn.Linear(64, 10, bias=False), nn.RMSNorm(10), nn.Linear(10, 64, bias=False))
    nn.init.normal_(model[0].weight, 0, 30)
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter)
    half = nn.Sequential(nn.Linear(64, 10, bias=False), nn.RMSNorm(10), nn.Linear(10, 64, bias=False)).to(
        dtype
    )
    for mine, other in zip(half.parameters(), model.parameters()):
        mine.data.copy_(other.data)
        mine.grad = other.grad.to(dtype)
        other.data, other.grad = mine.data.float(), mine.grad.float()
    found = scores(half, criterion, "0.out", torch.randn(3, 64, dtype=dtype))
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, scores(model, criterion, "0.out", torch.randn(3, 64)))


@pytest.mark.parametrize("criterion", [*WEIGHTS, *GRADIENTS])
def test_numbers_that_are_none_do_not_spoil_the_others(criterion):
    """A slot that is not a number goes first, one that is not finite last; the others keep their order."""
    model = Chain()
    nn.init.uniform_(model.norm.weight, 0.5, 1.5)
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter)
    clean = scores(model, criterion)
    with torch.no_grad():
        model.norm.weight[4] = float("nan")
    found = scores(model, criterion)
    assert found.isfinite().all()
    assert len(found.unique()) > 5
    if criterion != "fpgm":  # where a slot lies is told by all of its weights
        assert found.argmin() == 4
        others = [slot for slot in range(10) if slot != 4]
        assert found[others].argsort().tolist() == clean[others].argsort().tolist()


@pytest.mark.parametrize("criterion", [*WEIGHTS, *GRADIENTS, "random"])
@pytest.mark.parametrize("value", [0.0, 1e-30, 1e19])
def test_constant_weights_are_no_trouble(criterion, value):
    """All zero, or too small or large for squares: the scores are finite, and something is pruned."""
    model = Chain()
    for parameter in model.parameters():
        nn.init.constant_(parameter, value)
        parameter.grad = torch.ones_like(parameter)
    assert scores(model, criterion).isfinite().all()
    engine.prune(model, example_inputs=X, ratio=0.5, criterion=criterion, verify=False)
    assert model.enter.weight.shape == (5, 6)


@pytest.mark.parametrize("criterion", [*WEIGHTS, *GRADIENTS])
def test_weights_without_contents_cannot_be_ranked(criterion):
    """On the meta device nothing is known; random scores are possible there."""
    graph = engine.analyze(Chain().to("meta"), torch.empty(8, 6), fake=True)
    with pytest.raises(PlanError, match="meta device"):
        graph.choose(0.5, criterion=criterion)
    assert len(graph.choose(0.5, criterion="random").groups["enter.out"]) == 5


def test_random_scores_repeat():
    """Two choices are the same, and no global random number is used up."""
    model = Chain()
    state = torch.get_rng_state()
    first, second = (
        engine.prune(model, example_inputs=X, criterion="random", dry_run=True) for _ in range(2)
    )
    assert first.plan.groups == second.plan.groups
    assert torch.equal(torch.get_rng_state(), state)


def test_own_criteria_see_the_slots_of_every_member():
    """A criterion of three lines, written against what `Tensors` offers."""

    def largest_entry(group, tensors):
        entries = [tensors.slots(group, member).abs().amax(1) for member in tensors.weights(group)]
        return torch.stack(entries).amax(0)

    model = Chain()
    with torch.no_grad():
        model.head.weight[1, CHOSEN] = 50.0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        engine.prune(model, example_inputs=X, ratio=0.7, criterion=largest_entry)
    assert torch.equal(model.head.weight[1], torch.full((3,), 50.0))


def test_tables_that_are_looked_up_do_not_count():
    """An embedding's many rows say nothing of a slot; a table that is also a classifier's weight does."""

    class Words(nn.Module):
        def __init__(self, tied):
            super().__init__()
            self.table = nn.Embedding(50, 8)
            self.mix = nn.Linear(8, 8, bias=False)
            self.out = nn.Linear(8, 50, bias=False)
            nn.init.constant_(self.mix.weight, 0.1)
            if tied:
                self.out.weight = self.table.weight
            else:
                nn.init.constant_(self.out.weight, 1.0)
            with torch.no_grad():
                self.table.weight[:, 3] = 0

        def forward(self, words):
            x = self.table(words)
            return self.out(x + self.mix(x))

    words = torch.randint(50, (2, 6))
    torch.testing.assert_close(scores(Words(tied=False), "magnitude", "table.d", words), torch.ones(8))
    assert scores(Words(tied=True), "magnitude", "table.d", words).argmin() == 3
