"""A mask shows what pruning will do, and leaves no trace."""

from __future__ import annotations

import copy

import pytest
import torch
from oracle import distance, randomise, run
from prunus import PlanError, engine
from torch import Tensor, nn
from trained_nets import NETS, perceptron


def planned(kind: str):
    """A randomised net of one kind, an input, and a plan that halves its groups."""
    make, batch = NETS[kind]
    model, x = make(), batch()
    randomise(model, x)
    return model, x, engine.prune(model, example_inputs=x, dry_run=True).plan


def contents(model: nn.Module) -> dict[str, Tensor]:
    """A copy of all tensors of a model."""
    return {name: value.clone() for name, value in model.state_dict().items()}


def same(model: nn.Module, before: dict[str, Tensor]) -> bool:
    """Whether all tensors are as they were, bit for bit: -0 is not 0."""
    return all(torch.equal(bits(value), bits(before[name])) for name, value in model.state_dict().items())


def bits(tensor: Tensor) -> Tensor:
    """The bytes of a tensor."""
    return tensor.reshape(-1).view(torch.uint8)


@pytest.mark.parametrize("kind", NETS)
def test_a_masked_model_computes_what_the_pruned_one_will(kind):
    """All groups of these nets are exact."""
    model, x, plan = planned(kind)
    whole = run(model, x)
    with engine.mask(model, plan) as masked:
        assert masked is model
        outputs = run(model, x)
    engine.apply(model, plan)
    assert distance(outputs, run(model, x)) < 1e-5
    assert distance(outputs, whole) > 1e-3


@pytest.mark.parametrize("kind", NETS)
def test_everything_comes_back(kind):
    """Bit for bit, with the same tensors, shapes and attributes all the while."""
    model, _, plan = planned(kind)
    before, tensors = contents(model), list(model.parameters())
    with engine.mask(model, plan):
        assert not same(model, before)
        assert all(a is b for a, b in zip(tensors, model.parameters(), strict=True))
        assert all(value.shape == before[name].shape for name, value in model.state_dict().items())
    assert same(model, before)


def test_everything_comes_back_after_an_exception():
    """An evaluation that fails, or is interrupted, does not leave zeros."""
    model, _, plan = planned("residual")
    before = contents(model)
    for error in (ValueError, KeyboardInterrupt):
        with pytest.raises(error), engine.mask(model, plan):
            raise error
        assert same(model, before)


def test_odd_values_come_back():
    """Negative zeros, infinities and nans are not made up again but kept."""
    model, x = perceptron(), torch.randn(3, 6)
    with torch.no_grad():
        model[0].weight[:3, 0] = torch.tensor([-0.0, float("inf"), float("nan")])
    plan = engine.analyze(model, x).plan({"0.out": range(4, 16)})
    before = contents(model)
    with engine.mask(model, plan):
        assert not model[0].weight[:4].any()
    assert same(model, before)


def test_masks_nest_and_follow_each_other():
    """Plans that overlap are undone in the order of the blocks."""
    model, x = perceptron(), torch.randn(3, 6)
    graph = engine.analyze(model, x)
    one = graph.plan({"0.out": range(8), "2.out": range(6)})
    two = graph.plan({"0.out": range(4, 16)})
    before = contents(model)
    with engine.mask(model, one):
        within = contents(model)
        with engine.mask(model, two):
            assert not model[0].weight[:4].any() and not model[0].weight[8:].any()
        assert same(model, within)
        with engine.mask(model, one):
            assert same(model, within)
        assert same(model, within)
    assert same(model, before)
    with engine.mask(model, two):
        assert not model[0].weight[:4].any() and model[0].weight[8:].all()
    assert same(model, before)


def test_tied_tensors_stay_tied():
    """The head of a tied model is masked with the embedding, once."""
    model, _, plan = planned("tied")
    before = contents(model)
    with engine.mask(model, plan):
        assert model.head.weight is model.embed.weight
        assert (model.embed.weight == 0).all(0).sum() == 4
    assert same(model, before)


def test_whole_numbers_are_left_alone():
    """A count or an index has no zero that means nothing."""

    class Indexed(nn.Module):
        def __init__(self):
            super().__init__()
            self.enter, self.leave = nn.Linear(4, 8), nn.Linear(8, 2)
            self.register_buffer("signs", torch.tensor([1, -1] * 4))

        def forward(self, x):
            return self.leave(self.enter(x) * self.signs)

    model, x = Indexed(), torch.randn(2, 4)
    plan = engine.prune(model, example_inputs=x, dry_run=True).plan
    assert "signs" in plan.tensors
    with engine.mask(model, plan):
        assert model.signs.all()
        outputs = run(model, x)
    engine.apply(model, plan)
    assert distance(run(model, x), outputs) < 1e-5


def test_only_the_dropped_values_are_kept():
    """A tenth of the slots takes a tenth of the memory, not that of a copy."""
    model, x = nn.Sequential(nn.Linear(4, 1000), nn.ReLU(), nn.Linear(1000, 4)), torch.randn(2, 4)
    plan = engine.prune(model, example_inputs=x, ratio=0.1, dry_run=True).plan
    whole = sum(value.nbytes for value in model.state_dict().values())
    before = held_bytes()
    with engine.mask(model, plan):
        assert held_bytes() - before < 0.2 * whole


def held_bytes() -> int:
    """The memory of all tensors that are alive, views and what they view counted once."""
    import gc

    gc.collect()
    storages = {}
    for item in gc.get_objects():
        if type(item) in (Tensor, nn.Parameter):
            storages[item.untyped_storage().data_ptr()] = item.untyped_storage().nbytes()
    return sum(storages.values())


def test_a_foreign_plan_is_refused():
    """Before anything is touched."""
    plan = planned("perceptron")[2]
    other = nn.Sequential(nn.Linear(6, 16), nn.GELU(), nn.Linear(16, 10), nn.Tanh(), nn.Linear(10, 5))
    before = contents(other)
    with pytest.raises(PlanError, match="shape"), engine.mask(other, plan):
        pass
    with pytest.raises(PlanError, match="does not have"), engine.mask(NETS["residual"][0](), plan):
        pass
    assert same(other, before)


def test_pruning_inside_the_block_is_refused():
    """The zeros would be kept, or values put back that have no place any more: leaving says so."""
    model, _, plan = planned("perceptron")
    with pytest.raises(PlanError, match="leave the block before pruning"), engine.mask(model, plan):
        engine.apply(model, plan)


def test_a_backward_across_the_end_of_the_block_fails():
    """Its gradient would be computed with weights that were not those of the forward."""
    model, x, plan = planned("perceptron")
    with engine.mask(model, plan):
        loss = model(x).sum()
    with pytest.raises(RuntimeError, match="inplace"):
        loss.backward()


def test_masking_in_inference_mode():
    """Where one would evaluate; the model can still be trained afterwards."""
    model, x, plan = planned("residual")
    before = contents(model)
    with torch.inference_mode(), engine.mask(model, plan):
        assert not same(model, before)
    assert same(model, before)
    with engine.mask(model, plan), torch.inference_mode():
        model(x)
    model.load_state_dict(before)
    model(x).sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_a_filter_of_weight_norm_has_no_zero():
    """Its direction is a quotient of zeros; next to nothing serves instead."""
    weight_norm = nn.utils.parametrizations.weight_norm
    model, x = nn.Sequential(weight_norm(nn.Linear(6, 8)), nn.ReLU(), nn.Linear(8, 3)), torch.randn(2, 6)
    plan = engine.prune(model, example_inputs=x, dry_run=True).plan
    before = contents(model)
    with engine.mask(model, plan, nothing=1e-12):
        outputs = run(model, x)
    assert same(model, before)
    engine.apply(model, plan)
    assert distance(run(model, x), outputs) < 1e-5


def test_masking_within_autocast():
    """Weights that were cast before are not used inside, nor those cast inside afterwards."""
    model, x, plan = planned("perceptron")
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        whole = model(x)
        with engine.mask(model, plan):
            masked = model(x)
        assert torch.equal(model(x), whole)
        assert not torch.equal(masked, whole)
        engine.apply(model, plan)
        assert distance([model(x)], [masked]) < 5e-2


def test_a_mask_does_not_touch_gradients_and_flags():
    """Only values are set."""
    model, x, plan = planned("residual")
    model(x).sum().backward()
    grads = [parameter.grad.clone() for parameter in model.parameters()]
    flags = copy.deepcopy([module.training for module in model.modules()])
    with engine.mask(model, plan):
        assert all(torch.equal(p.grad, grad) for p, grad in zip(model.parameters(), grads, strict=True))
    assert [module.training for module in model.modules()] == flags
    assert all(parameter.requires_grad for parameter in model.parameters())
