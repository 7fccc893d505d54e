"""Corrections in sequence: each block for what the corrected blocks before it hand on."""

import copy

import pytest
import torch
import torchvision
from prunus import PlanError, engine
from prunus.engine.calibrating.chain import chains_of
from tiny_language import bert, llama, padded, t5, tokens
from torch import nn


class Block(nn.Module):
    """A residual block, which may change what it adds."""

    def __init__(self, size, act=None):
        super().__init__()
        self.up, self.down, self.act = nn.Linear(size, 12), nn.Linear(12, size), act

    def forward(self, x):
        y = self.down(self.up(x).tanh())
        return x + (y if self.act is None else self.act(y))


class Net(nn.Module):
    """Residual blocks between a stem and a head."""

    def __init__(self, depth=4, act=None):
        super().__init__()
        self.stem, self.head = nn.Linear(5, 8), nn.Linear(8, 3)
        self.blocks = nn.Sequential(*[Block(8, act) for _ in range(depth)])

    def forward(self, x):
        return self.head(self.blocks(self.stem(x)))


DATA = [torch.randn(512, 5, generator=torch.Generator().manual_seed(seed)) for seed in range(4)]
TEST = torch.randn(2048, 5, generator=torch.Generator().manual_seed(9))


def error(model, whole, *given, **named):
    with torch.no_grad():
        one, other = (of(*given, **named) for of in (model, whole))
    one, other = (getattr(found, "logits", found) for found in (one, other))
    return (one - other).square().mean().item()


def pruned(make, data, seed=0, **options):
    torch.manual_seed(seed)
    whole = make()
    model = copy.deepcopy(whole)
    return whole, model, engine.prune(model, ratio=0.5, data=data, **options)


def test_residual_blocks_come_out_better_in_sequence():
    """On data that it has not seen, over several networks."""
    errors = {}
    for sequential in (False, True):
        found = []
        for seed in range(4):
            whole, model, _ = pruned(
                Net, DATA, seed, only=["*.up"], compensate="lstsq", sequential=sequential
            )
            found.append(error(model, whole, TEST))
        errors[sequential] = sum(found)
    assert errors[True] < 0.9 * errors[False]


def test_one_block_alone_is_corrected_as_without():
    """With nothing before it there is nothing else to make up for."""
    for seed in range(3):
        outputs = []
        for sequential in (False, True):
            _, model, _ = pruned(
                lambda: Net(2),
                DATA,
                seed,
                only=["blocks.0.up"],
                compensate=("lstsq", 1e-3),
                sequential=sequential,
            )
            outputs.append(model(TEST))
        torch.testing.assert_close(*outputs, rtol=1e-3, atol=1e-4)


def test_a_later_block_makes_up_for_an_earlier_one():
    """The first block's loss can be made up for by the second, which reads the same: its correction does."""
    torch.manual_seed(0)
    whole = Net(2)
    whole.blocks[1].load_state_dict(whole.blocks[0].state_dict())
    found = {}
    for sequential in (False, True):
        model = copy.deepcopy(whole)
        options = {"ratios": {"blocks.0.up.out": 0.75, "blocks.1.up.out": 0.1}, "only": ["*.up"]}
        engine.prune(model, data=DATA, compensate="lstsq", sequential=sequential, **options)
        found[sequential] = error(model, whole, TEST)
    assert found[True] < 0.8 * found[False]


@pytest.mark.parametrize("kinds", [["hidden"], ["heads"], ["stream"]])
@pytest.mark.parametrize("make", [llama, bert])
def test_language_models(make, kinds):
    """All kinds of groups are corrected in sequence, and the model is no worse than without a correction."""
    given = {"input_ids": tokens(32, 12, seed=5)}
    without = pruned(make, tokens(64, 12), kinds=kinds, criterion="wanda")
    whole, model, result = pruned(
        make, tokens(64, 12), kinds=kinds, criterion="wanda", compensate="lstsq", sequential=True
    )
    assert result.after < result.before
    assert error(model, whole, **given) <= 1.02 * error(without[1], whole, **given)


def test_an_encoder_and_its_decoder_are_two_chains():
    given = {"input_ids": tokens(32, 12, seed=5), "decoder_input_ids": tokens(32, 12, seed=6)}
    both = (tokens(16, 12, seed=seed) for seed in range(4))
    data = [{"input_ids": one, "decoder_input_ids": one} for one in both]
    without = pruned(t5, data, kinds=["hidden"], criterion="wanda")
    whole, model, _ = pruned(
        t5, data, kinds=["hidden"], criterion="wanda", compensate="lstsq", sequential=True
    )
    assert error(model, whole, **given) < 0.6 * error(without[1], whole, **given)


def test_padding_counts_nowhere():
    """What stands where the mask is 0 changes no correction."""
    rows = [tokens(n, seed=n) for n in (12, 7, 9, 12)] * 8
    batch = padded(*rows)
    other = {**batch, "input_ids": torch.where(batch["attention_mask"] == 1, batch["input_ids"], 7)}
    found = []
    for data in ([batch], [other]):
        _, model, _ = pruned(
            llama, data, kinds=["hidden"], criterion="wanda", compensate="lstsq", sequential=True
        )
        found.append(model(input_ids=tokens(4, 8, seed=3)).logits)
    torch.testing.assert_close(*found)


def test_what_is_changed_before_it_is_added_is_not_corrected_in_sequence():
    """Nothing tells what a reader has to make up for if a function comes between it and the sum."""
    data = {"only": ["*.up"], "compensate": "lstsq"}
    with pytest.raises(PlanError, match="leave it out"):
        pruned(lambda: Net(act=torch.tanh), DATA, sequential=True, **data)


def test_a_model_is_left_as_it_was():
    """Also by an error on the way, and nothing of the model is shared with the copy that is pruned first."""
    torch.manual_seed(0)
    model = Net()
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(PlanError, match="not finite"):
        engine.prune(
            model,
            example_inputs=DATA[0],
            data=[DATA[0], torch.full((4, 5), torch.nan)],
            only=["*.up"],
            compensate="lstsq",
            sequential=True,
        )
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    engine.prune(model, data=DATA, only=["*.up"], compensate="lstsq", sequential=True, dry_run=True)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert not any(one._forward_hooks or one._forward_pre_hooks for one in model.modules())


def test_biases_of_the_model_are_not_those_of_the_copy():
    """What is corrected is the copy's own, before the model is pruned: a dry run leaves all as it was."""
    for make in (Net, bert):
        torch.manual_seed(0)
        model = make()
        before = copy.deepcopy(model.state_dict())
        data = DATA if make is Net else tokens(64, 12)
        engine.prune(model, ratio=0.5, data=data, compensate="lstsq", sequential=True, dry_run=True)
        assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_it_says_how_to_correct():
    with pytest.raises(PlanError, match="by compensate='lstsq', not by None"):
        engine.prune(Net(), data=DATA, sequential=True)
    with pytest.raises(PlanError, match="by compensate='lstsq', not by 'mean'"):
        engine.prune(Net(), data=DATA, sequential=True, compensate="mean")
    with pytest.raises(PlanError, match="True, False or None, not 'yes'"):
        engine.prune(Net(), data=DATA, sequential="yes", compensate="lstsq")


def test_weights_of_inference_mode():
    """Made there, or pruned there: they are corrected as others are."""
    outputs = []
    for made, there in ((False, False), (True, False), (False, True)):
        torch.manual_seed(0)
        with torch.inference_mode(made):
            model = Net()
        with torch.inference_mode(there):
            engine.prune(model, data=DATA, only=["*.up"], compensate="lstsq", sequential=True)
        with torch.no_grad():
            outputs.append(model(TEST))
    torch.testing.assert_close(outputs[0], outputs[1])
    torch.testing.assert_close(outputs[0], outputs[2])


def test_a_model_that_cannot_be_copied():
    class Held(Net):
        def __deepcopy__(self, memo):
            raise TypeError("there is one of me")

    with pytest.raises(PlanError, match="cannot be copied: there is one of me"):
        engine.prune(Held(), data=DATA, only=["*.up"], compensate="lstsq", sequential=True)


CHAINS = {
    "resnet18": ("layer1.0", "layer4.1"),
    "vgg11": ("features.0", "avgpool"),
    "vit_b_32": ("encoder.layers.encoder_layer_0", "encoder.layers.encoder_layer_11"),
    "swin_t": ("features.1.0", "features.7.1"),
    "mobilenet_v2": ("features.3", "features.5"),
}


@pytest.mark.parametrize("name", CHAINS)
def test_chains_are_found_where_the_model_runs(name):
    model = getattr(torchvision.models, name)().eval()
    found = max(chains_of(model, lambda: model(torch.randn(1, 3, 224, 224))), key=len)
    first, last = CHAINS[name]
    assert found.index(first) < found.index(last)


def test_a_tensor_that_is_written_to_is_another_one():
    """The last layer before `x += y` hands on what is not yet the sum."""

    class Adds(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x):
            y = self.b(self.a(x))
            y += x
            return self.c(y)

    assert chains_of(Adds(), lambda: None) == []
    model = Adds()
    assert chains_of(model, lambda: model(torch.randn(2, 4))) == [["a", "b"]]


def test_what_is_given_more_of_a_chain_is_not_in_it():
    """A module that is given the block's input as well cannot be run with another one for the first alone."""

    class Joins(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.join = nn.Linear(4, 4), nn.Linear(4, 4), nn.Bilinear(4, 4, 4)

        def forward(self, x):
            return self.join(self.b(self.a(x)), x)

    model = Joins()
    assert chains_of(model, lambda: model(torch.randn(2, 4))) == [["a", "b"]]


def test_few_data_correct_nothing():
    """Of two entries in each half nothing is estimated, and that is said."""
    _, _, result = pruned(Net, [DATA[0][:4]], only=["*.up"], compensate="lstsq", sequential=True)
    assert any("not corrected" in note for note in result.notes)


def test_by_default_language_models_are_corrected_in_sequence_if_data_are_enough():
    """What is done without a word is what `sequential=` says then."""
    for rows, sequential in ((16, False), (128, True)):
        results = []
        for options in ({}, {"sequential": sequential}):
            _, model, _ = pruned(llama, tokens(rows, 12), kinds=["hidden"], compensate="lstsq", **options)
            results.append(model(input_ids=tokens(4, 8, seed=3)).logits)
        assert torch.equal(*results)
        _, model, _ = pruned(
            llama, tokens(rows, 12), kinds=["hidden"], compensate="lstsq", sequential=not sequential
        )
        assert not torch.equal(results[0], model(input_ids=tokens(4, 8, seed=3)).logits)
