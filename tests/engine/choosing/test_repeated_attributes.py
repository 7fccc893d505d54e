"""Attributes that repeat a pruned size and that only other methods read: they follow, or are named."""

import oracle
import pytest
import torch
from prunus import engine
from torch import nn

IMAGE = torch.randn(2, 3, 8, 8)


class Branches(nn.Module):
    """A 3x3 and a 1x1 convolution side by side, which become one; sizes are kept as attributes."""

    def __init__(self, inputs, outputs, groups=1):
        super().__init__()
        self.in_chs, self.out_chs, self.groups = inputs, outputs, groups
        self.large = nn.Conv2d(inputs, outputs, 3, padding=1, groups=groups)
        self.small = nn.Conv2d(inputs, outputs, 1, groups=groups)

    def forward(self, x):
        return self.large(x) + self.small(x)

    def fused(self):
        """The one convolution that does the same."""
        conv = nn.Conv2d(self.in_chs, self.out_chs, 3, padding=1, groups=self.groups)
        weight = torch.zeros(self.out_chs, self.in_chs // self.groups, 3, 3)
        weight[:, :, 1:2, 1:2] = self.small.weight
        conv.weight.data.copy_(weight + self.large.weight)
        conv.bias.data.copy_(self.large.bias + self.small.bias)
        return conv


class Mixer(nn.Module):
    """A depthwise block, which keeps its width under a short name."""

    def __init__(self, dim):
        super().__init__()
        self.dim = dim
        self.mix = Branches(dim, dim, dim)

    def forward(self, x):
        return x + self.mix(x)

    def fused(self):
        conv = nn.Conv2d(self.dim, self.dim, 3, padding=1, groups=self.dim)
        conv.load_state_dict(self.mix.fused().state_dict())
        with torch.no_grad():
            conv.weight[:, 0, 1, 1] += 1
        return conv


class Net(nn.Module):
    """A stem, both kinds of blocks and a head, with a table of what comes out where."""

    def __init__(self, **numbers):
        super().__init__()
        self.stem, self.mixer, self.wide = nn.Conv2d(3, 12, 1), Mixer(12), Branches(12, 20)
        self.head = nn.Conv2d(20, 5, 1)
        self.feature_info = [{"num_chs": 12, "module": "mixer"}, {"num_chs": 20, "module": "wide"}]
        for name, number in numbers.items():
            setattr(self, name, number)

    def forward(self, x):
        return self.head(self.wide(self.mixer(self.stem(x).relu()).relu()).relu())

    def fuse(self):
        self.mixer, self.wide = self.mixer.fused(), self.wide.fused()

    def channels(self):
        return [one["num_chs"] for one in self.feature_info]


def test_a_pruned_model_can_be_fused():
    """What fusing reads is as wide as the weights, and the fused model computes the same."""
    model = Net()
    oracle.check(Net(), IMAGE, engine.analyze(Net(), IMAGE).choose(0.5))
    result = engine.prune(model, example_inputs=IMAGE)
    assert (model.mixer.dim, model.mixer.mix.in_chs, model.mixer.mix.groups) == (6, 6, 6)
    assert (model.wide.in_chs, model.wide.out_chs, model.channels()) == (6, 10, [6, 10])
    assert result.notes == []
    with torch.no_grad():
        expected = model(IMAGE)
        model.fuse()
        assert torch.allclose(model(IMAGE), expected, atol=1e-5)


def test_the_plan_has_them():
    """On a fresh model, from JSON, a plan does the same."""
    plan = engine.prune(Net(), example_inputs=IMAGE, dry_run=True).plan
    assert plan.attributes["feature_info[1]['num_chs']"] == 10
    model = Net()
    engine.apply(model, type(plan).from_json(plan.to_json()))
    model.fuse()
    assert model(IMAGE).shape == (2, 5, 8, 8) and model.channels() == [6, 10]


@pytest.mark.parametrize("name", ["window", "size", "kept", "image_size", "max_len"])
def test_a_number_of_another_name_stays_and_is_named(name):
    """That a number equals a width may be chance: it stays, and one note says so."""
    model = Net(**{name: 20})
    result = engine.prune(model, example_inputs=IMAGE)
    (note,) = result.notes
    assert f"{name} = 20" in note and "other methods" in note
    assert getattr(model, name) == 20
    assert note in str(result)


def test_many_of_them_are_one_short_note():
    """Hundreds of numbers are no hundreds of lines."""
    model = Net(table=[20] * 300)
    (note,) = engine.prune(model, example_inputs=IMAGE).notes
    assert "and 296 more" in note and len(note) < 300 and "\n" not in note


def test_what_the_forward_reads_is_no_width():
    """A number that the forward itself uses, and that fits, is left alone and not named."""

    class Reading(Net):
        def forward(self, x):
            return super().forward(x)[..., : self.out_channels]

    model = Reading(out_channels=20)
    assert engine.prune(model, example_inputs=torch.randn(2, 3, 8, 30)).notes == []
    assert model.out_channels == 20


def test_what_the_forward_reads_unseen_is_never_exact_and_wrong():
    """A power of the number of channels looks at no traced integer: the second trace sees that it moves."""

    class Scaling(Net):
        def forward(self, x):
            return super().forward(x) * 0.9**self.out_channels

    model = Scaling(out_channels=20)
    graph = engine.analyze(model, IMAGE)
    plan = graph.choose(0.5)
    assert plan.attributes["out_channels"] == 10
    assert not graph.group("wide.large.out").exact


def test_a_size_that_two_groups_have_is_not_certain():
    """Where widths that were equal become different, nobody knows which of them was meant."""

    class Backbone(nn.Sequential):
        """A class of the user's own: torch's layers have rules for what repeats a size."""

    model = Backbone(nn.Conv2d(3, 12, 1), nn.Conv2d(12, 12, 1), nn.Conv2d(12, 5, 1))
    model.num_features = 12
    result = engine.prune(model, example_inputs=IMAGE, ratios={"0.out": 0.5, "1.out": 0.25})
    assert model.num_features == 12 and "num_features = 12" in result.notes[0]
    holder = Net(inner=model)
    assert all("inner" not in note for note in engine.prune(holder, example_inputs=IMAGE).notes)


def test_layers_of_torch_are_known():
    """A kernel as large as a width is no width: torch's own layers have rules for what repeats a size."""
    model = nn.Sequential(nn.Conv2d(3, 8, (8, 1)), nn.Conv2d(8, 5, 1))
    result = engine.prune(model, example_inputs=IMAGE)
    assert result.notes == [] and model[0].kernel_size == (8, 1) and model[0].out_channels == 4


@pytest.mark.parametrize("name", ["mobileone_s0", "fastvit_t8"])
def test_models_that_are_fused_after_training(name):
    """timm's own fusing works on the pruned model, and its feature table is right, or named."""
    timm = pytest.importorskip("timm")
    from timm.utils.model import reparameterize_model

    torch.manual_seed(0)
    model, x = timm.create_model(name, num_classes=5).eval(), torch.randn(1, 3, 64, 64)
    result = engine.prune(model, example_inputs=x, ratio=0.5)
    with torch.no_grad():
        expected = model(x)
        error = (reparameterize_model(model)(x) - expected).abs().max() / expected.abs().max()
    assert error < 1e-4
    told, wide = model.feature_info[0]["num_chs"], model.stages[0](model.stem(x)).shape[1]
    assert told == wide or any(f"feature_info[0]['num_chs'] = {told}" in note for note in result.notes)
