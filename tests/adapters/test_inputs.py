"""Example inputs are guessed, the guess runs, and the model is left as it was."""

import types

import pytest
import torch
from prunus.adapters.inputs import guess_inputs
from prunus.errors import TraceError
from torch import nn


class Net(nn.Module):
    """Layers to read widths from, and any function of them as the forward."""

    def __init__(self, forward, **layers):
        super().__init__()
        for name, layer in layers.items():
            setattr(self, name, layer)
        self.forward = types.MethodType(forward, self)


def guessed(model):
    """Guess, run what was guessed, and return the description."""
    args, kwargs, description = guess_inputs(model)
    model.eval()(*args, **kwargs)
    assert "\n" not in description
    return description


# By layer


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        ([nn.Conv2d(3, 4, 3), nn.ReLU()], "1x3x224x224, guessed from Conv2d 0"),
        ([nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(1352, 3)], "1x1x28x28, guessed from Conv2d 0"),
        ([nn.Conv1d(2, 1, 1), nn.Flatten(), nn.Linear(256, 3)], "1x2x256, guessed from Conv1d 0"),
        ([nn.Conv3d(2, 1, 3, stride=4)], "1x2x16x112x112, guessed from Conv3d 0"),
        ([nn.ConvTranspose2d(4, 1, 2)], "1x4x224x224, guessed from ConvTranspose2d 0"),
        ([nn.BatchNorm2d(3), nn.Conv2d(3, 4, 3)], "1x3x224x224, guessed from BatchNorm2d 0"),
        ([nn.Linear(7, 4), nn.Linear(4, 2)], "2x7, guessed from Linear 0"),
        ([nn.Linear(7, 4), nn.Flatten(1), nn.Linear(32, 2)], "2x8x7, guessed from Linear 0"),
        ([nn.Embedding(9, 4), nn.Linear(4, 9)], "2x16, guessed from Embedding 0"),
        ([nn.LSTM(5, 4)], "2x16x5, guessed from LSTM 0"),
        ([nn.GRUCell(5, 4)], "2x5, guessed from GRUCell 0"),
    ],
    ids=lambda value: value.split(",")[0] if isinstance(value, str) else "",
)
def test_first_layer(layers, expected):
    """The kind and width of the first layer say what is read; sizes are tried."""
    assert guessed(nn.Sequential(*layers)) == f"input of {expected}"


def test_the_layer_that_reads_may_be_a_later_one():
    """The order of the modules is only a hint."""
    model = Net(lambda self, x: self.head(self.body(x)), head=nn.Linear(5, 2), body=nn.Linear(9, 5))
    assert guessed(model) == "input of 2x9, guessed from Linear body"


def test_an_own_layer_is_known_by_its_weight():
    """A weight that no known layer holds is applied to something of its width."""
    model = Net(lambda self, x: x @ self.weight.T, weight=nn.Parameter(torch.randn(3, 6)))
    assert guessed(model) == "input of 2x6, guessed from the shape of weight"


# Arguments


def test_an_optional_argument_is_not_given():
    """A tensor is one argument."""
    model = Net(lambda self, x, mask=None: self.a(x if mask is None else 1 / 0), a=nn.Linear(5, 2))
    assert guessed(model) == "input of 2x5, guessed from Linear a"


def test_two_arguments_alike():
    """Two required arguments get two tensors."""
    model = Net(lambda self, x, y: self.a(x) - self.a(y), a=nn.Linear(5, 2))
    assert guessed(model) == "input of 2x5, input of 2x5, guessed from Linear a"


def test_two_arguments_for_two_layers():
    """Each argument may be for a layer of its own, in any order."""
    model = Net(lambda self, x, y: self.a(y) + self.b(x), a=nn.Linear(5, 2), b=nn.Linear(7, 2))
    assert guessed(model) == "input of 2x7, input of 2x5, guessed from Linear b and Linear a"


def test_attention():
    """Query, key and value."""
    assert guessed(nn.MultiheadAttention(8, 2)).count("2x16x8") == 3


def test_no_argument():
    """A model may need no input at all."""
    model = Net(lambda self: self.table * 2, table=nn.Parameter(torch.randn(3)))
    assert guess_inputs(model)[:2] == ((), {})


def test_type_of_the_parameters():
    """Inputs have the type of the first floating-point parameter, tokens stay whole numbers."""
    assert guess_inputs(nn.Linear(3, 2).double())[0][0].dtype == torch.float64
    assert guess_inputs(nn.Linear(3, 2, dtype=torch.bfloat16))[0][0].dtype == torch.bfloat16
    assert guess_inputs(nn.Embedding(3, 2))[0][0].dtype == torch.int64


def test_another_way_to_run():
    """The caller may run the model in its own way, for example without data."""
    with torch.device("meta"):
        model = nn.Sequential(nn.Linear(10**6, 10**6))
    (x,), _, _ = guess_inputs(model, run=lambda model, args, kwargs: model.forward(*args, **kwargs))
    assert x.device.type == "meta"


# Failure and care


def test_nothing_runs():
    """The error lists what was tried, briefly, and says what to do."""
    model = Net(lambda self, x: self.a(x).missing, a=nn.Conv2d(3, 2, 3))
    with pytest.raises(TraceError) as caught:
        guess_inputs(model)
    lines = str(caught.value).splitlines()
    assert lines[0] == "no example inputs could be guessed for Net: pass example_inputs="
    assert lines[2].startswith("  input of 1x3x224x224 and ")
    assert "guessed from Conv2d a: AttributeError" in lines[2]
    assert len(lines) < 6


def test_maps_of_many_channels_are_no_pictures():
    """Optical flow of two pictures in one: three channels are too few, and maps are read further inside."""

    def forward(self, pair):
        maps = [self.features(picture) for picture in (pair[:, :3], pair[:, 3:6])]
        return self.flow(torch.cat(maps, 1))

    model = Net(forward, features=nn.Conv2d(3, 96, 3), flow=nn.Conv2d(192, 2, 3))
    with pytest.raises(TraceError, match="pass example_inputs=") as caught:
        guess_inputs(model)
    assert "1x192x" not in str(caught.value)
    inside = Net(lambda self, maps: self.b(self.a(maps)), a=nn.Conv2d(192, 8, 3), b=nn.Conv2d(8, 192, 3))
    assert guessed(inside).startswith("input of 1x192x224x224")


def test_nothing_to_guess_from():
    """A model without layers says nothing."""
    with pytest.raises(TraceError, match="nothing: no layer"):
        guess_inputs(Net(lambda self, x: x))


def test_model_is_left_as_it_was():
    """Flags, buffers, their values, gradients and random numbers are the same afterwards."""

    def forward(self, x):
        self.seen += 1
        self.last = torch.rand(3)
        return self.fixed(self.norm(x))

    model = Net(forward, norm=nn.BatchNorm1d(4, momentum=0.5), fixed=nn.Linear(4, 2).eval())
    model.register_buffer("seen", torch.zeros(()))
    model.register_buffer("last", torch.zeros(3))
    flags = [module.training for module in model.modules()]
    buffers = {name: (buffer, buffer.clone()) for name, buffer in model.named_buffers()}
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)

    guess_inputs(model)

    assert torch.equal(torch.rand(2), expected)
    assert [module.training for module in model.modules()] == flags
    assert all(parameter.grad is None for parameter in model.parameters())
    assert dict(model.named_buffers()).keys() == buffers.keys()
    for name, buffer in model.named_buffers():
        assert buffer is buffers[name][0]
        assert torch.equal(buffer, buffers[name][1])


# Libraries


def test_torchvision():
    """Networks for images and for videos."""
    models = pytest.importorskip("torchvision").models
    assert guessed(models.squeezenet1_1()) == "input of 1x3x224x224, guessed from Conv2d features.0"
    assert guessed(models.video.r3d_18()) == "input of 1x3x16x112x112, guessed from Conv3d stem.0"


@pytest.mark.parametrize("name", ["resnet10t", "vit_tiny_patch16_224", "mixer_s32_224"])
def test_timm(name):
    """The size that the model was made for."""
    assert guessed(pytest.importorskip("timm").create_model(name)).endswith("guessed from pretrained_cfg")


TINY = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
TEXT = {"vocab_size": 50, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0, **TINY}
VISION = {"image_size": 32, "patch_size": 8, **TINY}
BART = {"d_model": 32, "encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64}
BART |= {"encoder_attention_heads": 2, "decoder_attention_heads": 2}
TRANSFORMERS = {
    "BertModel": (TEXT, "input_ids of 1x16"),
    "LlamaForCausalLM": (TEXT, "input_ids of 1x16"),
    "RobertaModel": ({**TEXT, "max_position_embeddings": 12}, "input_ids of 1x6"),
    "T5ForConditionalGeneration": (
        {"vocab_size": 50, "d_model": 32, "d_kv": 16, "d_ff": 64, "num_layers": 1, "num_heads": 2},
        "input_ids of 1x16, decoder_input_ids of 1x16",
    ),
    "BartForSequenceClassification": (
        {"vocab_size": 50, **BART},
        "input_ids of 1x16, decoder_input_ids of 1x16",
    ),
    "WhisperForConditionalGeneration": (
        {**BART, "vocab_size": 60, "max_source_positions": 50, "pad_token_id": 0, "eos_token_id": 2},
        "input_features of 1x80x100, decoder_input_ids of 1x16",
    ),
    "ViTForImageClassification": (VISION, "pixel_values of 1x3x32x32"),
    "VideoMAEModel": ({**VISION, "num_frames": 4}, "pixel_values of 1x4x3x32x32"),
    "CLIPModel": (
        {"text_config": {**TEXT, "max_position_embeddings": 20}, "vision_config": VISION},
        "input_ids of 1x10, pixel_values of 1x3x32x32",
    ),
    "ASTModel": ({**TINY, "max_length": 64, "num_mel_bins": 32}, "input_values of 1x64x32"),
    "HubertModel": (
        {**TINY, "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 2},
        "input_values of 1x16000",
    ),
    "PatchTSTForPrediction": (
        {"context_length": 32, "num_input_channels": 2, "d_model": 16, "ffn_dim": 16, "num_hidden_layers": 1},
        "past_values of 1x32x2",
    ),
}


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_transformers(name):
    """Arguments are made by name, from the config; encoder-decoders and pairs get both parts."""
    transformers = pytest.importorskip("transformers")
    settings, expected = TRANSFORMERS[name]
    kind = getattr(transformers, name)
    assert guessed(kind(kind.config_class(**settings))) == f"{expected}, guessed from the config"


def test_no_cache_among_the_results():
    """A returned cache would pin heads and head size."""
    pytest.importorskip("transformers")
    from tiny_language import llama  # which needs it

    assert guess_inputs(llama())[1]["use_cache"] is False


def test_dummy_inputs():
    """Where no argument is known by its name, the model's own example serves."""
    model = Net(lambda self, tokens: self.a(tokens), a=nn.Embedding(5, 2))
    model.config = types.SimpleNamespace()
    model.dummy_inputs = {"tokens": torch.tensor([[1, 2]])}
    assert guessed(model) == "tokens of 1x2, guessed from dummy_inputs"


@pytest.mark.parametrize("build", ["GCN", "GAT", "GIN", "GraphSAGE"])
def test_graph_networks(build):
    """A small graph with features of the right width."""
    geometric = pytest.importorskip("torch_geometric.nn")
    model = getattr(geometric, build)(7, 16, 2, 3)
    assert guessed(model) == "x of 12x7, edge_index of 2x24, guessed from the names of forward's arguments"
