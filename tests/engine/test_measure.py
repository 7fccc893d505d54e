"""What data tell of a model is measured once, and does for a prune what the data do."""

import copy
import pickle

import pytest
import torch
from prunus import CheckpointError, PlanError, TraceError, engine
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM


def llama():
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    return LlamaForCausalLM(LlamaConfig(**sizes, num_key_value_heads=2, vocab_size=60)).eval()


def net():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(8, 24), nn.ReLU(), nn.Linear(24, 16, bias=False), nn.GELU(), nn.Linear(16, 4)
    )


SEEN: list[int] = []


class Counting(nn.Module):
    """Notes how many rows it is given."""

    def forward(self, x):
        SEEN.append(len(x))
        return x


TOKENS = torch.randint(0, 60, (12, 32), generator=torch.Generator().manual_seed(1))
ROWS = [torch.randn(40, 8, generator=torch.Generator().manual_seed(n)) for n in range(4)]


def same(model, data, measured, **options):
    """Both are pruned alike: the same slots, and weights that differ by rounding alone."""
    one, other = copy.deepcopy(model), copy.deepcopy(model)
    by_data = engine.prune(one, data=data, **options)
    by_measured = engine.prune(other, data=measured, **options)
    for name, tensor in one.state_dict().items():
        torch.testing.assert_close(other.state_dict()[name], tensor, rtol=1e-4, atol=1e-5)
    return by_data.plan == by_measured.plan


@pytest.mark.parametrize("criterion", ["wanda", "flap", "variance", "obs", "leverage"])
@pytest.mark.parametrize("compensate", [None, "lstsq", ("lstsq", 0.1)])
def test_it_does_what_the_data_do(criterion, compensate):
    """Whatever looks at activations: a criterion, a correction, or both."""
    options = {"criterion": criterion, "compensate": compensate}
    assert same(net(), ROWS, engine.measure(net(), ROWS), ratio=0.3, **options)


@pytest.mark.parametrize("criterion", ["wanda", "obs"])
def test_of_a_language_model(criterion):
    """With its own loss, whose gradients are measured as well, and heads as groups."""
    options = {"criterion": criterion, "compensate": "lstsq", "sequential": False, "params": 0.8}
    measured = engine.measure(llama(), TOKENS)
    assert measured.gradients
    assert same(llama(), TOKENS, measured, kinds=["hidden", "heads"], **options)


def test_it_is_measured_once():
    """Two prunings, and no run on the data in either."""
    model = net().append(Counting())
    measured = engine.measure(model, [ROWS[0][:3], *ROWS])
    SEEN.clear()
    for ratio in (0.2, 0.4):
        engine.prune(copy.deepcopy(model), data=measured, criterion="wanda", ratio=ratio, compensate="lstsq")
    assert set(SEEN) == {3}


def test_the_model_is_left_as_it_was():
    """Bit for bit, with its hooks, mode and gradients."""
    model = llama().train()
    before = copy.deepcopy(model.state_dict())
    engine.measure(model, TOKENS)
    assert model.training and all(one.grad is None for one in model.parameters())
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())


@pytest.mark.parametrize("way", ["pickled", "saved"])
def test_it_can_be_kept(way, tmp_path):
    """In a file of its own, or pickled: the plans are the same."""
    measured = engine.measure(llama(), TOKENS)
    if way == "pickled":
        kept = pickle.loads(pickle.dumps(measured))
    else:
        measured.save(tmp_path / "measured.safetensors")
        kept = engine.Measured.load(tmp_path / "measured.safetensors")
    options = {"params": 0.8, "compensate": "lstsq"}
    plans = [engine.prune(llama(), data=one, **options).plan for one in (measured, kept)]
    assert plans[0] == plans[1]


def test_squares_alone():
    """They do for criteria that look at no pairs; whatever does says how to have them."""
    measured = engine.measure(net(), ROWS, products=False)
    assert same(net(), ROWS, measured, ratio=0.3, criterion="wanda")
    with pytest.raises(PlanError, match="products=True"):
        engine.prune(net(), ratio=0.3, data=measured, criterion="obs")


@pytest.mark.parametrize(
    "options, told",
    [
        ({"compensate": "lstsq", "sequential": True}, "runs batches"),
        ({"criterion": "taylor"}, "needs gradients"),
    ],
)
def test_what_runs_batches_needs_them(options, told):
    """It says so, and the model is as it was."""
    model = llama()
    with pytest.raises(PlanError, match=told):
        engine.prune(model, params=0.8, data=engine.measure(llama(), TOKENS), **options)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), llama().parameters()))


def test_of_another_model():
    """Other layers, or other sizes, as after a prune: it is to be measured again."""
    measured = engine.measure(llama(), TOKENS)
    smaller = engine.prune(llama(), params=0.8).model
    for model in (smaller, net()):
        with pytest.raises(PlanError, match="another model"):
            engine.prune(model, example_inputs=_inputs(model), ratio=0.3, data=measured, criterion="wanda")


def test_a_schedule_runs_batches_in_each_step():
    """What was measured of the whole model would be of another one after the first."""
    with pytest.raises(PlanError, match="runs some"):
        engine.Schedule(net(), steps=2, ratio=0.5, data=engine.measure(net(), ROWS), criterion="wanda")


def test_a_name_is_no_model():
    with pytest.raises(TraceError, match="this is a str"):
        engine.measure("smollm2", TOKENS)


def test_it_prints_in_a_line():
    assert len(repr(engine.measure(llama(), TOKENS))) < 200


def _inputs(model):
    return ROWS[0] if isinstance(model, nn.Sequential) else {"input_ids": TOKENS[:1], "use_cache": False}


def test_another_file(tmp_path):
    """One that is cut off, one of something else, one whose counts and tensors do not go together."""
    path = tmp_path / "measured.safetensors"
    engine.measure(net(), ROWS).save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match="measure it again"):
        engine.Measured.load(path)
    save_file({"a": torch.ones(2)}, path)
    with pytest.raises(CheckpointError, match="measure it again"):
        engine.Measured.load(path)
    path.write_bytes(whole)
    with safe_open(path, "pt") as file:
        told = file.metadata()
    tensors = load_file(path)
    name = next(name for name in tensors if name.startswith("mean/"))
    save_file({**tensors, name: tensors[name][1:].clone()}, path, told)
    with pytest.raises(CheckpointError, match="measure it again"):
        engine.Measured.load(path)
    with pytest.raises(CheckpointError):
        engine.Measured.load(tmp_path / "none")
