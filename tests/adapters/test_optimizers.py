"""Training goes on after pruning as if the dropped slots had been zero and frozen."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator

import pytest
import torch
from oracle import mask, named_tensor
from prunus import PlanError, VerificationError, engine
from torch import Tensor, nn
from trained_nets import NETS, moved, perceptron

BEFORE, AFTER = 4, 3

OPTIMIZERS = {
    "SGD": lambda params: torch.optim.SGD(params, lr=0.05),
    "momentum": lambda params: torch.optim.SGD(params, lr=0.05, momentum=0.9, weight_decay=0.01),
    "nesterov": lambda params: torch.optim.SGD(params, lr=0.05, momentum=0.9, nesterov=True),
    "Adam": lambda params: torch.optim.Adam(params, lr=0.01, weight_decay=0.01),
    "amsgrad": lambda params: torch.optim.Adam(params, lr=0.01, amsgrad=True),
    "foreach": lambda params: torch.optim.Adam(params, lr=0.01, foreach=True),
    "fused": lambda params: torch.optim.Adam(params, lr=0.01, fused=True),
    "AdamW": lambda params: torch.optim.AdamW(params, lr=0.01, weight_decay=0.1),
    "RMSprop": lambda params: torch.optim.RMSprop(params, lr=0.01, momentum=0.9, centered=True, eps=1e-4),
    "Adagrad": lambda params: torch.optim.Adagrad(params, lr=0.01),
    "NAdam": lambda params: torch.optim.NAdam(params, lr=0.01),
    "Adadelta": lambda params: torch.optim.Adadelta(params),
}


def loss_of(model: nn.Module, batch: Tensor) -> Tensor:
    """Something to minimise, with a gradient for every output."""
    return (model(batch) - 1).square().mean()


def train(model: nn.Module, optimizer, batches) -> None:
    """One step for each batch."""
    for batch in batches:
        optimizer.zero_grad()
        loss_of(model, batch).backward()
        optimizer.step()


def dropped(plan, model: nn.Module) -> Iterator[tuple[Tensor, int, Tensor]]:
    """Each axis that the plan slices: the tensor, the axis, the slots that go."""
    for name, axes in plan.tensors.items():
        tensor = named_tensor(model, name)
        for axis, kept in axes.items():
            gone = torch.ones(tensor.shape[axis], dtype=torch.bool)
            gone[kept] = False
            yield tensor, axis, gone.nonzero().flatten()


def zero_state(model: nn.Module, optimizer, plan) -> None:
    """Zeros in the dropped slots of all tensors that the optimizer keeps in its parameter's shape."""
    for tensor, axis, gone in dropped(plan, model):
        for value in optimizer.state.get(tensor, {}).values():
            if isinstance(value, Tensor) and value.shape == tensor.shape:
                value.index_fill_(axis, gone, 0)


def train_frozen(model: nn.Module, optimizer, batches, plan) -> None:
    """Steps of the whole model, in which the dropped slots are zero and stay so."""
    mask(model, plan)
    zero_state(model, optimizer, plan)
    for batch in batches:
        optimizer.zero_grad()
        loss_of(model, batch).backward()
        for tensor, axis, gone in dropped(plan, model):
            if tensor.grad is not None:
                tensor.grad.index_fill_(axis, gone, 0)
        optimizer.step()
        mask(model, plan)
        zero_state(model, optimizer, plan)


def kept_part(tensor: Tensor, axes: dict[int, list[int]]) -> Tensor:
    """The slots of a whole tensor that a plan keeps."""
    for axis, kept in axes.items():
        tensor = tensor.index_select(axis, torch.tensor(kept))
    return tensor


def assert_same_slots(pruned: nn.Module, whole: nn.Module, optimizer, reference, plan) -> None:
    """Parameters and optimizer state of the pruned model are the kept slots of the whole one's."""
    for name, tensor in pruned.named_parameters():
        partner = named_tensor(whole, name)
        pairs = {"itself": (tensor, partner)}
        pairs |= {
            key: (value, reference.state[partner][key]) for key, value in optimizer.state[tensor].items()
        }
        for key, (value, wanted) in pairs.items():
            if isinstance(value, Tensor):
                wanted = kept_part(wanted, plan.tensors.get(name, {})) if value.dim() else wanted
                # A gradient that is but rounding, as that of a bias before a batch norm, says nothing.
                near = 1e-6 * wanted.abs().max() + 1e-12
                assert (value - wanted).abs().max() <= near, f"{name}: {key}"


def training(kind: str, optimizer: str, where="cpu"):
    """A model of one kind in double precision, its optimizer, and batches."""
    make, batch = NETS[kind]
    model = make().to(where).double()
    batches = [moved(moved(batch(), torch.double), where) for _ in range(BEFORE + AFTER)]
    return model, OPTIMIZERS[optimizer](model.parameters()), batches


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("kind", NETS)
def test_steps_after_pruning_are_those_of_a_frozen_run(kind, optimizer):
    """Pruned half-way, kept slots and their state go where they go with the dropped ones zero and frozen."""
    model, optimizer, batches = training(kind, optimizer)
    train(model, optimizer, batches[:BEFORE])
    whole, reference = copy.deepcopy((model, optimizer))
    result = engine.prune(model, example_inputs=batches[0], optimizer=optimizer)
    assert result.plan.tensors
    assert not any("dropped" in note for note in result.notes)
    train(model, optimizer, batches[BEFORE:])
    train_frozen(whole, reference, batches[BEFORE:], result.plan)
    assert_same_slots(model, whole, optimizer, reference, result.plan)


def test_the_frozen_run_tells_a_reset_from_a_slice():
    """The comparison would notice an optimizer that starts anew: it is not blind."""
    model, optimizer, batches = training("perceptron", "Adam")
    train(model, optimizer, batches[:BEFORE])
    whole, reference = copy.deepcopy((model, optimizer))
    plan = engine.prune(model, example_inputs=batches[0]).plan
    optimizer = OPTIMIZERS["Adam"](model.parameters())
    train(model, optimizer, batches[BEFORE:])
    train_frozen(whole, reference, batches[BEFORE:], plan)
    with pytest.raises(AssertionError):
        assert_same_slots(model, whole, optimizer, reference, plan)


def test_learning_rates_schedulers_and_scalers_go_on():
    """Groups keep their rates, a scheduler and a gradient scaler hold on to the same optimizer."""
    model, _, batches = training("residual", "Adam")
    head = list(model.head.parameters())
    body = [parameter for parameter in model.parameters() if not any(parameter is one for one in head)]
    optimizer = torch.optim.AdamW([{"params": body, "lr": 0.02}, {"params": head, "lr": 0.001}])
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 2, gamma=0.5)
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)

    def go_on(model, optimizer, schedule, scaler, batches, after_backward=lambda: None):
        for batch in batches:
            optimizer.zero_grad()
            scaler.scale(loss_of(model, batch)).backward()
            after_backward()
            scaler.step(optimizer)
            scaler.update()
            schedule.step()

    go_on(model, optimizer, schedule, scaler, batches[:BEFORE])
    whole, reference, schedule_too = copy.deepcopy((model, optimizer, schedule))
    plan = engine.prune(model, example_inputs=batches[0], optimizer=optimizer).plan
    go_on(model, optimizer, schedule, scaler, batches[BEFORE:])
    for batch in batches[BEFORE:]:
        train_frozen(whole, reference, [batch], plan)
        schedule_too.step()
    assert_same_slots(model, whole, optimizer, reference, plan)
    assert [group["lr"] for group in optimizer.param_groups] == [0.02 / 8, 0.001 / 8]


def test_state_dict_goes_round_after_pruning():
    """What a pruned model's optimizer saves, a new one loads; their next steps are the same."""
    model, optimizer, batches = training("attentive", "Adam")
    train(model, optimizer, batches[:BEFORE])
    engine.prune(model, example_inputs=batches[0], optimizer=optimizer)
    other = copy.deepcopy(model)
    loaded = OPTIMIZERS["Adam"](other.parameters())
    loaded.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    train(model, optimizer, batches[BEFORE:])
    train(other, loaded, batches[BEFORE:])
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))


def test_rows_and_columns_of_adafactor_are_sliced():
    """A statistic that was reduced over an axis keeps its size of one there."""
    model, _, batches = training("perceptron", "SGD")
    optimizer = torch.optim.Adafactor(model.parameters())
    train(model, optimizer, batches[:BEFORE])
    whole, reference = copy.deepcopy((model, optimizer))
    plan = engine.prune(model, example_inputs=batches[0], optimizer=optimizer).plan
    kept, before = plan.tensors["2.weight"], reference.state[whole[2].weight]
    state = optimizer.state[model[2].weight]
    assert torch.equal(state["row_var"], before["row_var"].index_select(0, torch.tensor(kept[0])))
    assert torch.equal(state["col_var"], before["col_var"].index_select(1, torch.tensor(kept[1])))
    train(model, optimizer, batches[BEFORE:])


def test_two_optimizers_of_one_model():
    """Muon takes matrices only, so that another optimizer has the rest: both are sliced."""
    model, _, batches = training("residual", "SGD")
    matrices = [parameter for parameter in model.parameters() if parameter.dim() == 4]
    others = [parameter for parameter in model.parameters() if parameter.dim() != 4]
    both = [torch.optim.SGD(matrices, lr=0.1, momentum=0.9), torch.optim.Adam(others)]

    def step():
        loss_of(model, batches[0]).backward()
        for optimizer in both:
            optimizer.step()
            optimizer.zero_grad()

    step()
    engine.prune(model, example_inputs=batches[0], optimizer=both)
    step()
    shapes = [
        optimizer.state[p][key].shape == p.shape
        for optimizer, ps, key in ((both[0], matrices, "momentum_buffer"), (both[1], others, "exp_avg"))
        for p in ps
    ]
    assert all(shapes)


# --- state of another form ------------------------------------------------------------------------------


def lbfgs(model: nn.Module, batch: Tensor):
    """An LBFGS that has gone a step, and a call that goes another."""
    optimizer = torch.optim.LBFGS(model.parameters(), lr=0.1, max_iter=4)

    def step() -> float:
        def closure():
            optimizer.zero_grad()
            loss = loss_of(model, batch)
            loss.backward()
            return loss

        return float(optimizer.step(closure))

    step()
    return optimizer, step


def test_lbfgs_starts_anew_with_a_notice():
    """Vectors of all parameters at once cannot be sliced: they are dropped, told, and the next step works."""
    model, _, batches = training("perceptron", "SGD")
    optimizer, step = lbfgs(model, batches[0])
    result = engine.prune(model, example_inputs=batches[0], optimizer=optimizer)
    assert [note for note in result.notes if "LBFGS" in note and "dropped" in note]
    first = step()
    assert step() < first


def test_lbfgs_starts_anew_if_its_first_parameter_is_not_pruned():
    """All state is kept with the first parameter, whichever is pruned."""
    model, _, batches = training("perceptron", "SGD")
    optimizer, step = lbfgs(model, batches[0])
    result = engine.prune(model, example_inputs=batches[0], optimizer=optimizer, skip=["0.out"])
    assert "0.weight" not in result.plan.tensors
    first = step()
    assert step() < first


def test_apply_warns_of_dropped_state():
    """`apply` has no notes to put it into."""
    model, _, batches = training("perceptron", "SGD")
    optimizer, step = lbfgs(model, batches[0])
    plan = engine.prune(model, example_inputs=batches[0], dry_run=True).plan
    with pytest.warns(UserWarning, match="LBFGS.*dropped"):
        engine.apply(model, plan, optimizer=optimizer)
    step()


def test_apply_is_silent_where_all_state_is_sliced():
    """No notice without need."""
    model, optimizer, batches = training("perceptron", "Adam")
    train(model, optimizer, batches[:BEFORE])
    plan = engine.prune(model, example_inputs=batches[0], dry_run=True).plan
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        engine.apply(model, plan, optimizer=optimizer)
    assert model[0].weight.shape == optimizer.state[model[0].weight]["exp_avg"].shape


class Factored(torch.optim.Optimizer):
    """Keeps a square matrix for each axis of a parameter, as Shampoo does."""

    def __init__(self, params):
        super().__init__(params, {"lr": 0.01})

    @torch.no_grad()
    def step(self, closure=None):
        for parameter in self.param_groups[0]["params"]:
            state = self.state[parameter]
            if not state:
                state["mean"] = torch.zeros_like(parameter)
                for axis, size in enumerate(parameter.shape):
                    state[f"factor_{axis}"] = torch.zeros(size, size, dtype=parameter.dtype)
            state["mean"].lerp_(parameter.grad, 0.1)
            for axis in range(parameter.dim()):
                rows = parameter.grad.movedim(axis, 0).reshape(parameter.shape[axis], -1)
                state[f"factor_{axis}"] += rows @ rows.T
            parameter.sub_(state["mean"], alpha=0.01)


def test_factors_of_a_square_weight_are_not_taken_for_the_weight():
    """The factor of a square weight has its shape, but not its axes: it is dropped like all others."""
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3)).double()
    optimizer, batch = Factored(model.parameters()), torch.randn(4, 6).double()
    train(model, optimizer, [batch])
    result = engine.prune(model, example_inputs=batch, optimizer=optimizer)
    assert any("Factored" in note for note in result.notes)
    assert not optimizer.state.get(model[2].weight)
    train(model, optimizer, [batch])


# --- taken back, and refused ------------------------------------------------------------------------------


class Stubborn(nn.Module):
    """Insists on a size that it reads where no tracing can see it."""

    def __init__(self):
        super().__init__()
        self.net = perceptron().double()

    def forward(self, x):
        if str(self.net[0].out_features) == "8":
            raise ValueError("I do not want 8 slots")
        return self.net(x)


def state_of(optimizer) -> dict:
    """A copy of all that an optimizer keeps, by the number of the parameter."""
    return copy.deepcopy(optimizer.state_dict()["state"])


@pytest.mark.parametrize("kind", ["Adam", "LBFGS"])
def test_state_goes_back_if_the_plan_fails(kind):
    """Sliced or dropped, everything is there again, and the next step is that of an unpruned run."""
    model, batch = Stubborn(), torch.randn(4, 6).double()
    if kind == "LBFGS":
        optimizer, _ = lbfgs(model, batch)
    else:
        optimizer = torch.optim.Adam(model.parameters())
        train(model, optimizer, [batch])
    before = state_of(optimizer)
    with pytest.raises(VerificationError, match="8 slots"):
        engine.prune(model, example_inputs=batch, optimizer=optimizer)
    after = state_of(optimizer)
    assert list(after) == list(before)
    for number, state in before.items():
        assert list(after[number]) == list(state)
        for name, value in state.items():
            same = torch.equal(value, after[number][name]) if isinstance(value, Tensor) else True
            assert same, name


def test_an_optimizer_of_another_model_is_refused():
    """One made for a copy would silently go on without the model."""
    model, batch = perceptron(), torch.randn(4, 6)
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(PlanError, match="holds no parameter of this model"):
        engine.prune(model, example_inputs=batch, optimizer=torch.optim.Adam(perceptron().parameters()))
    with pytest.raises(PlanError, match="torch optimizers"):
        engine.prune(model, example_inputs=batch, optimizer="Adam")
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
