"""Odd models are pruned right, or are one clear error that names the module, and stay as they are."""

import pytest
import torch
from chaos import odd_models
from prunus import TraceError, engine
from torch import nn
from torch.nn import functional as F

X = torch.linspace(-1, 1, 2 * 3 * 4 * 4).view(2, 3, 4, 4)


@pytest.mark.parametrize(("seed", "count"), [(0, 40), (700, 15)])
def test_odd_models_are_pruned_right_or_named(seed, count):
    """Some of what `make chaos` tries: one oddity alone, then several at a time."""
    for tally in odd_models.run(seed, count):
        assert tally.tried == count and not tally.broken, tally


class Net(nn.Module):
    """Two convolutions; what is odd is in a subclass."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 4, 1)

    def forward(self, x):
        return self.b(F.relu(self.a(x)))


class Frozen(Net):
    def __setattr__(self, name, value):
        if name in ("a", "b") and "b" not in self._modules:
            return super().__setattr__(name, value)
        if name != "training" or name not in vars(self):
            return super().__setattr__(name, value)
        raise AttributeError("frozen")


class Unhashable(Net):
    __hash__ = None

    def __eq__(self, other):
        raise TypeError("not comparable")


class Tensorlike(Net):
    def __eq__(self, other):
        return torch.ones(2) == 1

    def __bool__(self):
        raise ValueError("ambiguous")

    def __len__(self):
        return 0

    __hash__ = nn.Module.__hash__


class Secretive(Net):
    """It lists nothing."""

    def named_modules(self, *args, **kwargs):
        return iter(())

    modules = parameters = named_parameters = buffers = named_buffers = children = named_modules

    def state_dict(self, *args, **kwargs):
        raise NotImplementedError


class Round(Net):
    """Its first layer leads back to it."""

    def __init__(self):
        super().__init__()
        self.a._modules["parent"] = self


class Recursing(Net):
    """What it has not, it looks for without an end."""

    def __getattr__(self, name):
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(self, name + "_")


@pytest.mark.parametrize("kind", [Frozen, Unhashable, Tensorlike, Secretive, Round, Recursing])
@pytest.mark.parametrize("training", [False, True])
def test_what_a_module_answers_does_not_matter(kind, training):
    """It is pruned as any other, and what it computes is what its masked original does."""
    torch.manual_seed(0)
    model = kind()
    vars(model)["training"] = training
    torch.manual_seed(0)
    whole = kind()
    result = engine.prune(model, example_inputs=X)
    assert model.a.out_channels == 4
    assert vars(model)["training"] is training
    with engine.mask(whole, result.plan), torch.no_grad():
        assert torch.allclose(model(X), whole(X), atol=1e-5)


def test_a_module_that_answers_with_an_error_is_named():
    """An error of its own code, wherever it is asked, is one error that names its class and the line."""

    class Broken(nn.Module):
        def __getattr__(self, name):
            raise OSError("the disk is full")

        def forward(self, x):
            return x * self.scale

    model = nn.Sequential(nn.Conv2d(3, 8, 1), Broken(), nn.Conv2d(8, 4, 1))
    before = [one.clone() for one in model[0].parameters()]
    with pytest.raises(TraceError, match=r"(?s)failed in 1.*test_chaos_odd_models.py.*the disk is full"):
        engine.prune(model, example_inputs=X)
    assert all(map(torch.equal, model[0].parameters(), before))


class Key:
    """A key that does not let itself be written."""

    def __repr__(self):
        raise ValueError("no text")


def test_a_size_under_a_key_without_a_text_is_held():
    """Nothing could name it in a plan; the rest is pruned."""
    key = Key()

    class Sized(Net):
        def __init__(self):
            super().__init__()
            self.sizes = {key: 4, "other": 5}
            self.c = nn.Linear(4, 3)

        def forward(self, x):
            x = super().forward(x)
            return self.c(x.view(len(x), self.sizes[key], -1).mean(2))

    model = Sized()
    result = engine.prune(model, example_inputs=X)
    assert (model.a.out_channels, model.b.out_channels) == (4, 4)
    assert "test_chaos_odd_models.py" in str(result.graph.blocked)


def test_inputs_and_outputs_may_have_any_keys():
    """``None``, ``True``, a tuple, and one that has no text."""
    key = Key()

    class Asked(Net):
        def forward(self, given):
            x = super().forward(given[None] + given[True, "x"])
            return {None: x, True: [x + given[key]], (1, 2): x * 2}

    given = {None: X, (True, "x"): X, key: 1.0, 3: None}
    torch.manual_seed(0)
    model = Asked()
    torch.manual_seed(0)
    whole = Asked()
    result = engine.prune(model, example_inputs=(given,))
    assert model.a.out_channels == 4
    with engine.mask(whole, result.plan), torch.no_grad():
        output, wanted = model(given), whole(given)
    assert torch.allclose(output[None], wanted[None], atol=1e-5)
    assert torch.allclose(output[1, 2], wanted[1, 2], atol=1e-5)
