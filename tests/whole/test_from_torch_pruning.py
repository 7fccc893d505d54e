"""The page for users of Torch-Pruning: what stands on it is run with both tools, and compared as it says."""

import copy
import itertools
import re

import pytest
import torch
import torch_pruning as tp
from peer_examples import PAGE, TABLE, Ran, pairs, ran, rows, run
from peer_models import IMAGES, MODELS, SMALL, InTheSource, Net, Recurrent, random_model
from prunus import PrunusError, engine
from torch import nn


def same(theirs, ours):
    """Slices of the same random numbers are equal only if the same slots were kept."""
    assert_sizes(theirs, ours)
    pairs = zip(theirs.model.state_dict().items(), ours.model.state_dict().values())
    assert [name for (name, one), other in pairs if not torch.equal(one, other)] == []
    torch.testing.assert_close(run(theirs.model, theirs.x), run(ours.model, ours.x))


def assert_sizes(theirs, ours):
    theirs.assert_pruned()
    ours.assert_pruned()
    assert theirs.shapes == ours.shapes


def near(theirs, ours):
    """Ours keeps one slot more, or the same."""
    theirs.assert_pruned()
    ours.assert_pruned()
    apart = {b - a for n, shape in theirs.shapes.items() for a, b in zip(shape, ours.shapes[n])}
    assert apart == {0, 1}


def up(theirs, ours):
    """Ours keeps more, both multiples of 16."""
    kept = [ran.shapes["layer1.0.conv1.weight"][0] for ran in (theirs, ours)]
    assert kept == [32, 48]


def floor(theirs, ours):
    """Ours keeps a quarter of everything, theirs does not."""
    whole = theirs.before.state_dict()
    least = [
        min(len(tensor) / len(whole[name]) for name, tensor in ran.model.state_dict().items() if tensor.dim())
        for ran in (theirs, ours)
    ]
    assert least[0] < 0.25 <= least[1]


def other(theirs, ours):
    same(*(Ran(ran.before, ran.other, ran.model, ran.x, None) for ran in (theirs, ours)))


def equal(theirs, ours):
    assert theirs.value == ours.value


def close(theirs, ours):
    assert ours.value == pytest.approx(theirs.value, rel=0.01)


def named(theirs, ours):
    assert all("layer1.0.conv2" in ran.value for ran in (theirs, ours))


def gradients(theirs, ours):
    torch.testing.assert_close(theirs.added(), ours.added())
    both(theirs, ours)


def pressed(theirs, ours):
    """The same weights are pressed in the same direction, and nearly as hard."""
    for name, one in theirs.added().items():
        two = ours.added()[name]
        assert float(one.norm()) == pytest.approx(float(two.norm()), rel=0.25), name
        assert (one * two).sum() >= 0.99 * one.norm() * two.norm(), name
    both(theirs, ours)


def both(theirs, ours):
    """Both press on a convolution or a batch norm."""
    for one in (theirs, ours):
        assert any(tensor.any() for name, tensor in one.added().items() if name.startswith("layer1"))


COMPARED = {"sizes": assert_sizes} | {
    one.__name__: one for one in (same, near, up, floor, other, equal, close, named, gradients, pressed, both)
}


@pytest.mark.filterwarnings("ignore")  # theirs warns of what is deprecated
@pytest.mark.parametrize("example", [*pairs(), *rows()], ids=str)
def test_both_do_what_the_page_says(example, tmp_path):
    """Each example of the page is run with both tools on copies of a model, and the results are compared."""
    model, (_, x) = random_model(example.model), MODELS[example.model]
    results = [ran(code, model, x, tmp_path / "saved") for code in (example.theirs, example.ours)]
    COMPARED[example.compared](*results)


def test_every_example_is_found():
    """As many as are marked, and every comparison is used."""
    found = [*pairs(), *(row.values[0] for row in rows())]
    assert PAGE.count("<!-- pair: ") == len(pairs()) > 8
    assert PAGE.count("<!-- rows: ") == len(TABLE.findall(PAGE))
    assert {example.compared for example in found} == set(COMPARED)


def test_what_is_different_by_itself_is_tested():
    """The tests that the page names are here."""
    names = re.findall(r"<!-- (test_\w+) -->", PAGE)
    assert names
    assert [name for name in names if name not in globals()] == []


def test_old_names():
    """Both are `BasePruner` itself."""
    assert tp.pruner.MagnitudePruner is tp.pruner.MetaPruner is tp.pruner.BasePruner


@pytest.mark.parametrize("allowed", [0, 1])
def test_a_failed_call_leaves_the_model_as_it_was(allowed):
    """Whichever of its runs fails: that of the whole model, or that of the pruned one."""
    model, runs = random_model("cnn"), itertools.count()
    before = copy.deepcopy(model.state_dict())

    def fail_when_it_is_time(*_):
        assert next(runs) < allowed

    model.register_forward_pre_hook(fail_when_it_is_time)
    with pytest.raises(PrunusError):
        engine.prune(model, example_inputs=IMAGES)
    torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0)


def test_parameters_keep_their_identity():
    """Theirs are new ones, which an optimizer does not know."""
    theirs, ours = random_model("cnn"), random_model("cnn")
    held = [list(model.parameters()) for model in (theirs, ours)]
    engine.prune(ours, example_inputs=IMAGES)
    tp.pruner.BasePruner(
        theirs, IMAGES, tp.importance.MagnitudeImportance(), ignored_layers=[theirs.fc]
    ).step()
    kept = [
        all(one is two for one, two in zip(before, model.parameters()))
        for before, model in zip(held, (theirs, ours))
    ]
    assert kept == [False, True]


def test_a_size_in_the_source_is_held():
    """Theirs prunes it, and the model does not run any more."""
    theirs, ours = InTheSource().eval(), InTheSource().eval()
    tp.pruner.BasePruner(
        theirs, SMALL, tp.importance.MagnitudeImportance(), ignored_layers=[theirs.head]
    ).step()
    with pytest.raises(RuntimeError):
        theirs(SMALL)
    assert "peer_models.py" in str(engine.prune(ours, example_inputs=SMALL))
    ours(SMALL)


def test_an_lstm_is_pruned():
    """Theirs ends with an `IndexError`."""
    theirs, ours, x = Recurrent(), Recurrent(), torch.randn(2, 5, 8)
    with pytest.raises(IndexError):
        tp.pruner.BasePruner(
            theirs, x, tp.importance.MagnitudeImportance(), ignored_layers=[theirs.head]
        ).step()
    engine.prune(ours, example_inputs=x)
    assert ours.lstm.hidden_size == 8


def test_heads_and_what_is_inside_of_them_are_two_calls():
    """One for whole heads, one for the rest."""
    model = random_model("vit")
    engine.prune(model, example_inputs=SMALL, only=["heads"])
    engine.prune(model, example_inputs=SMALL, ratio=0.25, prefer="inner")
    attention = model.blocks[0].attn
    assert (attention.num_heads, attention.head_dim, len(attention.qkv.weight)) == (2, 9, 54)
    run(model, SMALL)


class Encoder(Net):
    def encode(self, x):
        return super().forward(x)

    forward = None


class Encodes(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x):
        return self.model.encode(x)


def test_another_method_than_forward_is_wrapped():
    """The model inside is changed in place."""
    model = Encoder().eval()
    engine.prune(Encodes(model), example_inputs=SMALL)
    assert model.encode(SMALL).shape == (2, 10)
    assert model.conv.out_channels == 8
