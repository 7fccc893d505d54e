"""A mask of tensors that share memory, are computed from others, or are of a dtype that torch cannot fill."""

from __future__ import annotations

import pytest
import torch
from oracle import distance, randomise, run
from prunus import PlanError, VerificationError, engine
from prunus.adapters.apply import carry_out
from torch import Tensor, nn
from torch.nn import functional as F


def bits(model: nn.Module) -> list[Tensor]:
    """The bytes of all tensors of a model, and whose memory they are in."""
    tensors = [*model.parameters(), *model.buffers()]
    return [one.detach().clone().contiguous().reshape(-1).view(torch.uint8) for one in tensors]


def places(model: nn.Module) -> list[tuple]:
    """Where the tensors of a model lie."""
    return [(one.data_ptr(), one.shape, one.stride()) for one in [*model.parameters(), *model.buffers()]]


def agrees(model: nn.Module, x: Tensor) -> None:
    """Masked, the model computes what the pruned one will; then all is as it was, in the same memory."""
    plan = engine.prune(model, example_inputs=x, dry_run=True).plan
    assert plan.groups
    before, where, whole = bits(model), places(model), run(model, x)
    with engine.mask(model, plan):
        masked = run(model, x)
    assert places(model) == where
    assert all(map(torch.equal, bits(model), before))
    assert distance(run(model, x), whole) == 0
    engine.apply(model, plan)
    assert distance(masked, run(model, x)) < 1e-5
    assert distance(masked, whole) > 1e-3


class Scaled(nn.Module):
    """A hidden layer whose slots are scaled."""

    def __init__(self, scale: Tensor):
        super().__init__()
        self.enter, self.leave = nn.Linear(6, 8), nn.Linear(8, 3)
        self.scale = nn.Parameter(scale)

    def forward(self, x):
        return self.leave(F.relu(self.enter(x)) * self.scale)


def test_an_expanded_parameter():
    """All its slots are one number in memory, which zero in one slot would set in all."""
    agrees(Scaled(torch.full((1,), 1.7).expand(8)), torch.randn(4, 6))


def test_an_expanded_weight():
    """Its rows are one row in memory."""
    model = Scaled(torch.rand(8) + 1)
    model.enter.weight = nn.Parameter(torch.randn(1, 6).expand(8, 6))
    model.enter.bias.data.normal_()
    agrees(model, torch.randn(4, 6))


def test_two_parameters_in_the_same_memory():
    """The slots of the one that go are not those of the other."""
    model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 3))
    model[0].bias.data = model[2].bias.data
    agrees(model, torch.randn(4, 6))


def test_parameters_that_are_parts_of_one_memory():
    """A flat buffer of all parameters, and columns next to columns."""
    model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 10), nn.Tanh(), nn.Linear(10, 3))
    flat = torch.cat([one.data.flatten() for one in model.parameters()])
    for one, part in zip(model.parameters(), flat.split([one.numel() for one in model.parameters()])):
        one.data = part.view_as(one)
    both = torch.randn(10, 14)
    model[0].weight.data, model[2].weight.data = both[:8, :6], both[:, 6:]
    agrees(model, torch.randn(4, 6))


def test_a_view_of_a_weight_that_somebody_keeps_sees_the_zeros():
    """It is the memory of the weight, as before and afterwards."""
    model, x = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)), torch.randn(2, 6)
    view = model[0].weight.data.view(-1)
    plan = engine.prune(model, example_inputs=x, dry_run=True).plan
    with engine.mask(model, plan):
        assert (view == 0).sum() == 4 * 6
    assert (view != 0).all()


def norms() -> dict:
    """The ways in which torch computes a weight from others."""
    parametrizations, utils = nn.utils.parametrizations, nn.utils
    return {
        "weight_norm": parametrizations.weight_norm,
        "weight_norm of another axis": lambda module: parametrizations.weight_norm(module, dim=1),
        "old weight_norm": utils.weight_norm,
        "spectral_norm": parametrizations.spectral_norm,
        "old spectral_norm": utils.spectral_norm,
    }


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("first", norms())
def test_weights_that_are_computed(first):
    """A filter without a norm has no direction: it is enough that it is scaled by zero."""
    norm = norms()[first]
    model = nn.Sequential(
        norm(nn.Linear(6, 8)), nn.ReLU(), norm(nn.Linear(8, 10)), nn.Tanh(), nn.Linear(10, 3)
    )
    x = torch.randn(4, 6)
    run(model, x)
    randomise(model, x)
    run(model, x)
    plan = engine.prune(model, example_inputs=x, dry_run=True).plan
    whole = run(model, x)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with engine.mask(model, plan):
        masked = run(model, x)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert masked[0].isfinite().all()
    assert plan.groups.keys() == {"0.out", "2.out"}
    engine.apply(model, plan)
    assert distance(masked, run(model, x)) < 1e-5
    assert distance(masked, whole) > 1e-3


class Direction(nn.Module):
    """A parametrization of the user's: rows of length one."""

    def forward(self, v):
        return v / v.norm(dim=1, keepdim=True)


def test_a_parametrization_without_a_scale():
    """There is no zero for its rows; what reads them is zero."""
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
    nn.utils.parametrize.register_parametrization(model[0], "weight", Direction())
    agrees(model, torch.randn(4, 6))


class Kept(nn.Module):
    """A layer of which a buffer is of another dtype, which the forward converts."""

    def __init__(self, weight: Tensor):
        super().__init__()
        self.enter, self.leave = nn.Linear(6, 8), nn.Linear(8, 3)
        self.register_buffer("weight", weight)

    def forward(self, x):
        x = F.relu(self.enter(x)) @ self.weight.to(torch.float32)
        return self.leave(F.relu(x))


DTYPES = ["float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float16", "bfloat16", "float64"]


@pytest.mark.parametrize("dtype", DTYPES)
def test_floats_of_every_size(dtype):
    """Also those that torch can neither fill nor write into by an index."""
    agrees(Kept(torch.randn(8, 8).to(getattr(torch, dtype))), torch.randn(4, 6))


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int32", "bool", "uint16"])
def test_whole_numbers_stay(dtype):
    """They have no zero that means nothing; it is enough that what they are multiplied with is zero."""
    agrees(Kept(torch.randint(1, 5, (8, 8)).to(getattr(torch, dtype))), torch.randn(4, 6))


@pytest.mark.parametrize("dtype", ["complex64", "complex128"])
def test_complex_numbers(dtype):
    """They have a zero."""

    class Complex(nn.Module):
        def __init__(self):
            super().__init__()
            self.enter, self.leave = nn.Linear(6, 8), nn.Linear(8, 3)
            self.turn = nn.Parameter(torch.randn(8, dtype=getattr(torch, dtype)))

        def forward(self, x):
            return self.leave((self.enter(x) * self.turn).real.float())

    agrees(Complex(), torch.randn(4, 6))


def test_a_slice_of_float8_is_taken_back():
    """A plan that fails after the knife leaves every bit, whatever the dtype."""
    for dtype in ("float8_e4m3fn", "float8_e5m2"):
        model, x = Kept(torch.randn(8, 8).to(getattr(torch, dtype))), torch.randn(4, 6)
        plan = engine.prune(model, example_inputs=x, dry_run=True).plan
        before = bits(model)
        with pytest.raises(VerificationError, match="as it was"):
            carry_out(model, plan, then=lambda notes: 1 / 0)
        assert all(map(torch.equal, bits(model), before))


class WrittenOut(nn.Module):
    """A weight norm in a forward, which nobody sees outside of it."""

    def __init__(self):
        super().__init__()
        self.v, self.g = nn.Parameter(torch.randn(8, 6)), nn.Parameter(torch.rand(8) + 0.5)
        self.leave = nn.Linear(8, 3)

    def forward(self, x):
        weight = self.v * (self.g / self.v.norm(dim=1)).unsqueeze(1)
        return self.leave(F.relu(F.linear(x, weight)))


def test_a_weight_norm_that_is_written_out_has_no_zero():
    """The mask shows nan, not another number; next to nothing serves."""
    model, x = WrittenOut(), torch.randn(4, 6)
    plan = engine.prune(model, example_inputs=x, dry_run=True).plan
    assert plan.groups
    with engine.mask(model, plan):
        assert run(model, x)[0].isnan().any()
    with engine.mask(model, plan, nothing=1e-12):
        masked = run(model, x)
    engine.apply(model, plan)
    assert distance(masked, run(model, x)) < 1e-5


def test_what_is_changed_inside_of_a_mask_in_shared_memory_is_gone_afterwards():
    """The copy that stood for the tensor is; elsewhere it stays."""
    model, x = Scaled(torch.full((1,), 1.7).expand(8)), torch.randn(4, 6)
    plan = engine.prune(model, example_inputs=x, dry_run=True).plan
    with engine.mask(model, plan), torch.no_grad():
        model.scale += 1
        model.leave.bias.fill_(5)
    assert (model.scale == 1.7).all() and (model.leave.bias == 5).all()


# --- what happens to a model inside ------------------------------------------------------------------------


def normed() -> nn.Module:
    """A model with statistics that are no one's initial values, and a bias that is expanded."""
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 3))
    randomise(model, torch.ones(1, 3, 8, 8))
    model[3].bias = nn.Parameter(torch.ones(1).expand(4))
    return model.eval()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("anew", [False, True])
def test_a_model_that_is_converted_inside_has_its_values_back(dtype, anew):
    """Where the conversion changes parameters, and where it puts new tensors in their place."""
    model = normed()
    plan = engine.prune(model, example_inputs=torch.ones(1, 3, 8, 8), ratio=0.5, dry_run=True).plan
    expected = {name: tensor.to(dtype) for name, tensor in model.state_dict().items()}
    was = torch.__future__.get_overwrite_module_params_on_conversion()
    torch.__future__.set_overwrite_module_params_on_conversion(anew)
    try:
        with engine.mask(model, plan):
            model.to(dtype)
    finally:
        torch.__future__.set_overwrite_module_params_on_conversion(was)
    found = model.state_dict()
    assert {name: one.dtype for name, one in found.items() if "num_" not in name} == {
        name: dtype for name in found if "num_" not in name
    }
    assert all(torch.equal(one, expected[name].to(one.dtype)) for name, one in found.items())


@pytest.mark.parametrize("given", [None, {}, "plan", 5])
def test_what_is_no_plan_is_one_line(tmp_path, given):
    """Whatever takes a plan says so, and does nothing."""
    model = normed()
    before = bits(model)
    for use in (
        lambda: engine.mask(model, given).__enter__(),
        lambda: engine.apply(model, given),
        lambda: engine.save(tmp_path / "x", model, given),
        lambda: engine.Plan().followed_by(given),
    ):
        with pytest.raises(PlanError, match="this is no plan but a"):
            use()
    assert all(map(torch.equal, bits(model), before)) and not list(tmp_path.iterdir())


@pytest.mark.parametrize("nothing", [None, "0", torch.ones(2)])
def test_what_stands_for_zero_is_a_number(nothing):
    """And else nothing is touched."""
    model = normed()
    plan = engine.prune(model, example_inputs=torch.ones(1, 3, 8, 8), ratio=0.5, dry_run=True).plan
    before = bits(model)
    with (
        pytest.raises(PlanError, match="number that stands for zero"),
        engine.mask(model, plan, nothing=nothing),
    ):
        pass
    assert all(map(torch.equal, bits(model), before))
