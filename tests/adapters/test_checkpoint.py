"""Saving and loading: the loaded model is the saved one bit for bit, and no bad file touches a model."""

from __future__ import annotations

import copy
import json
import struct

import pytest
import torch
from prunus import engine
from prunus.engine import Plan
from prunus.errors import CheckpointError, PlanError
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F


class Language(nn.Module):
    """Attention with heads, tied embeddings, batch statistics, and tensors that are no parameters."""

    def __init__(self, width: int = 16, heads: int = 4, tied: bool = True) -> None:
        super().__init__()
        self.heads = heads
        self.table = nn.Embedding(11, width)
        self.qkv = nn.Linear(width, 3 * width)
        self.join = nn.Linear(width, width)
        self.norm = nn.BatchNorm1d(width)
        self.hidden, self.back = nn.Linear(width, 24), nn.Linear(24, width)
        self.out = nn.Linear(width, 11, bias=False)
        if tied:
            self.out.weight = self.table.weight
        self.register_buffer("gain", torch.rand(24), persistent=False)
        self.shift = torch.rand(24)
        self.register_buffer("mask", torch.ones(3, 3).tril().bool(), persistent=False)
        self.register_buffer("steps", torch.tensor(3))

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.table(tokens)
        n, l, _ = x.shape
        q, k, v = self.qkv(x).view(n, l, 3, self.heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
        x = x + self.join(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(n, l, -1))
        x = self.norm(x.transpose(1, 2)).transpose(1, 2)
        return self.out(x + self.back(F.gelu(self.hidden(x)) * self.gain + self.shift))


TOKENS = torch.arange(6).reshape(2, 3)
IMAGE = torch.randn(2, 3, 8, 8)


def language(seed: int = 0, **options) -> nn.Module:
    """One with weights of its own, in eval mode."""
    torch.manual_seed(seed)
    return Language(**options).eval()


def images() -> nn.Module:
    """Convolutions, one of them depthwise, with batch norm."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 3),
        nn.BatchNorm2d(8),
        nn.Conv2d(8, 8, 3, groups=8),
        nn.Conv2d(8, 6, 1),
        nn.ReLU(),
        nn.Conv2d(6, 4, 3),
    ).eval()


def pruned(model: nn.Module, inputs: Tensor = TOKENS, **options) -> engine.Result:
    return engine.prune(model, example_inputs=inputs, ratio=0.5, **options)


def facts(model: nn.Module) -> dict[str, object]:
    """Values, shapes, gradients, identities and plain attributes of all that is in a model."""
    found: dict[str, object] = {}
    for path, module in model.named_modules():
        for name, value in {**vars(module), **module._parameters, **module._buffers}.items():
            if isinstance(value, Tensor):
                raw = value.detach().contiguous().reshape(-1).view(torch.uint8).tolist()
                found[f"{path}.{name}"] = (
                    id(value),
                    id(value.grad),
                    value.data_ptr(),
                    value.shape,
                    value.dtype,
                    raw,
                )
            elif isinstance(value, (int, float, str, tuple)):
                found[f"{path}.{name}"] = value
    return found


def refuses(model: nn.Module, path, word: str = "") -> str:
    """Assert that loading raises one clear line and changes nothing; the message."""
    before = facts(model)
    with pytest.raises(CheckpointError) as caught:
        engine.load(path, model)
    assert facts(model) == before
    message = str(caught.value)
    assert "\n" not in message and 20 < len(message) < 600 and word in message, message
    return message


@pytest.fixture
def saved(tmp_path):
    """The path of a pruned model, and the model."""
    result = pruned(language(1))
    result.save(tmp_path / "half.safetensors")
    return tmp_path / "half.safetensors", result.model


# --- there and back ----------------------------------------------------------------------------------------


def test_a_fresh_model_becomes_the_saved_one(saved):
    """Outputs, shapes, buffers, plain tensors and attributes are those of the saved model, bit for bit."""
    path, model = saved
    fresh = language(2)
    other, mask = fresh(TOKENS), fresh.mask
    assert engine.load(str(path), fresh) is fresh
    assert torch.equal(fresh(TOKENS), model(TOKENS)) and not torch.equal(fresh(TOKENS), other)
    assert fresh.heads == model.heads == 2 and fresh.hidden.out_features == 12
    for name in ("gain", "shift", "steps"):
        assert torch.equal(getattr(fresh, name), getattr(model, name)), name
    assert fresh.mask is mask


def test_identities_are_kept(saved):
    """Optimizers and ties keep the parameters, with ``requires_grad``; gradients of other values go."""
    path, _ = saved
    fresh = language(2)
    fresh.join.bias.requires_grad_(False)
    fresh(TOKENS).sum().backward()
    before = dict(fresh.named_parameters())
    flags = {name: parameter.requires_grad for name, parameter in before.items()}
    optimizer = torch.optim.SGD(fresh.parameters(), lr=0.1)
    engine.load(path, fresh)
    assert fresh.out.weight is fresh.table.weight
    for name, parameter in fresh.named_parameters():
        assert parameter is before[name] and parameter.requires_grad == flags[name] and parameter.grad is None
    start = fresh(TOKENS)
    start.sum().backward()
    optimizer.step()
    assert not torch.equal(fresh(TOKENS), start)


def test_the_values_saved_are_those_of_now(tmp_path):
    """What was trained after pruning is in the file."""
    result = pruned(language(1))
    with torch.no_grad():
        for parameter in result.model.parameters():
            parameter.add_(0.125)
    result.save(tmp_path / "x")
    assert torch.equal(engine.load(tmp_path / "x", language())(TOKENS), result.model(TOKENS))


def test_a_loaded_model_can_be_trained_pruned_and_saved_again(saved, tmp_path):
    """Two plans are one plan from the fresh model to the end."""
    path, _ = saved
    model = engine.load(path, language())
    first = Plan.from_json(safe_open(path, "pt").metadata()["plan"])
    again = pruned(model)
    with pytest.raises(CheckpointError, match="fresh"):
        again.save(tmp_path / "half")
        engine.load(tmp_path / "half", language())
    engine.save(tmp_path / "quarter", model, first.followed_by(again.plan))
    assert torch.equal(engine.load(tmp_path / "quarter", language())(TOKENS), model(TOKENS))


def test_the_file_is_plain_safetensors(saved):
    """Anyone can read it, a shared tensor is there once, and metadata is text."""
    path, model = saved
    tensors = load_file(path)
    assert torch.equal(tensors["qkv.weight"], model.qkv.weight)
    assert ("out.weight" in tensors) != ("table.weight" in tensors)
    assert json.loads(safe_open(path, "pt").metadata()["tied"]) == {"out.weight": "table.weight"}
    assert "mask" not in tensors and "gain" in tensors and "shift" in tensors


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_the_dtype_is_that_of_the_file(tmp_path, dtype):
    """A model saved in half precision is one after loading."""
    model = language().to(dtype)
    model.shift = model.shift.to(dtype)
    pruned(model).save(tmp_path / "x")
    fresh = engine.load(tmp_path / "x", language(3))
    assert fresh.qkv.weight.dtype == dtype and fresh.steps.dtype == torch.int64
    assert torch.equal(fresh(TOKENS), model(TOKENS))


def test_the_memory_format_is_that_of_the_file(tmp_path):
    """It decides which algorithm a convolution takes, and so the last bits."""
    model = images().to(memory_format=torch.channels_last)
    pruned(model, IMAGE).save(tmp_path / "x")
    fresh = engine.load(tmp_path / "x", images())
    for own, other in zip(fresh.parameters(), model.parameters()):
        assert own.stride() == other.stride()
    assert torch.equal(fresh(IMAGE), model(IMAGE))


def test_tensors_that_share_memory_are_saved(tmp_path):
    """Parameters cut from one block are written each for itself; those tied by data stay tied."""
    model, fresh = images(), images()
    block = torch.randn(2, 8)
    model[1].weight.data, model[1].bias.data = block[0], block[1]
    for net in (model, fresh):
        net[3].bias.data = net[5].weight.data[0, :, 0, 0].clone()
        net.spare = nn.Parameter(net[5].bias.data)
    result = pruned(model, IMAGE)
    result.save(tmp_path / "x")
    engine.load(tmp_path / "x", fresh)
    assert torch.equal(fresh(IMAGE), model(IMAGE))
    assert fresh.spare is not fresh[5].bias and fresh.spare.data_ptr() == fresh[5].bias.data_ptr()


def test_a_plan_that_was_applied_by_hand_is_saved(tmp_path):
    """``engine.save`` takes model and plan."""
    plan = pruned(language(), dry_run=True).plan
    model = engine.apply(language(4), plan)
    engine.save(tmp_path / "x", model, plan)
    assert torch.equal(engine.load(tmp_path / "x", language())(TOKENS), model(TOKENS))


def test_a_model_of_which_nothing_was_removed(tmp_path):
    """The empty plan makes a plain checkpoint."""
    model = language(1)
    engine.save(tmp_path / "x", model, Plan())
    assert torch.equal(engine.load(tmp_path / "x", copy.deepcopy(language(1)))(TOKENS), model(TOKENS))


# --- bad files ---------------------------------------------------------------------------------------------


def test_a_file_cut_off_anywhere(tmp_path):
    """Every length but the whole one is refused."""
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    x = torch.randn(2, 3)
    pruned(model, x).save(tmp_path / "whole")
    whole = (tmp_path / "whole").read_bytes()
    fresh = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    for length in [*range(0, len(whole), 7), len(whole) - 1]:
        (tmp_path / "cut").write_bytes(whole[:length])
        refuses(fresh, tmp_path / "cut", "save it again")
    assert torch.equal(engine.load(tmp_path / "whole", fresh)(x), model(x))


def test_a_file_with_any_byte_changed(tmp_path):
    """In the header or in the values: it never loads as something else."""
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    pruned(model, torch.randn(2, 3)).save(tmp_path / "whole")
    whole = (tmp_path / "whole").read_bytes()
    places, refused = range(0, len(whole), 5), 0
    for place in places:
        changed = bytearray(whole)
        changed[place] ^= 1
        (tmp_path / "changed").write_bytes(changed)
        fresh = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
        try:
            engine.load(tmp_path / "changed", fresh)
        except CheckpointError:
            refused += 1
        else:
            assert harmless(whole, changed), place
    assert refused > len(places) * 0.9


def harmless(whole: bytes, changed: bytes) -> bool:
    """Whether two files have the same tensors and metadata: a bit in the blanks that pad a header."""
    start = 8 + struct.unpack("<Q", whole[:8])[0]
    headers = [json.loads(file[8:start]) for file in (whole, changed)]
    return headers[0] == headers[1] and whole[start:] == changed[start:]


def test_a_file_that_is_not_there(tmp_path):
    """The message has the path and what to do."""
    refuses(language(), tmp_path / "nowhere.safetensors", "nowhere.safetensors")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 not at all", b"\x00" * 64, b"\xff" * 64])
def test_a_file_of_another_kind(tmp_path, content):
    """Empty files and noise."""
    (tmp_path / "x").write_bytes(content)
    refuses(language(), tmp_path / "x", "safetensors")


def test_a_pickle_is_not_opened(tmp_path):
    """What `torch.save` wrote is refused, not executed."""
    torch.save(language().state_dict(), tmp_path / "x")
    refuses(language(), tmp_path / "x", "safetensors")


def test_a_folder(tmp_path):
    """A path of something that is no file."""
    refuses(language(), tmp_path)


def test_a_foreign_safetensors_file(tmp_path):
    """With metadata of its own, or none."""
    for metadata in (None, {"format": "pt"}):
        save_file({"table.weight": torch.zeros(11, 16)}, tmp_path / "x", metadata)
        refuses(language(), tmp_path / "x", "not saved by prunus")


def rewritten(path, tensors=None, **changes: str | None):
    """The file with other tensors or metadata, as a tool that knows the container would write it."""
    with safe_open(path, "pt") as file:
        metadata = {**file.metadata(), **changes}
        found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    save_file({**found, **(tensors or {})}, path, {k: v for k, v in metadata.items() if v is not None})
    return path


def test_a_newer_version(saved):
    """It says that prunus is to be updated."""
    path, _ = saved
    refuses(language(), rewritten(path, version="7"), "update prunus")


def test_changed_values_and_plans_are_noticed(saved):
    """Tensors, plan, ties, strides and the sum itself: each is guarded."""
    path, _ = saved
    whole = path.read_bytes()
    plan = json.loads(safe_open(path, "pt").metadata()["plan"])
    plan["attributes"]["heads"] = 4
    changes = [
        {"tensors": {"steps": torch.tensor(4)}},
        {"tensors": {"more": torch.zeros(2)}},
        {"plan": json.dumps(plan)},
        {"plan": "{}"},
        {"plan": None},
        {"tied": "{}"},
        {"strides": '{"qkv.weight": [1, 24]}'},
        {"sha256": "0" * 64},
        {"sha256": None},
        {"note": "mine"},
    ]
    for change in changes:
        path.write_bytes(whole)
        refuses(language(), rewritten(path, **change), "changed after it was saved")


# --- other models ------------------------------------------------------------------------------------------


def test_a_model_that_was_pruned_before(saved):
    """The file is for a fresh one."""
    path, model = saved
    refuses(model, path, "fresh")


@pytest.mark.parametrize(
    "other",
    [
        lambda: language(width=24),
        lambda: language(heads=2),
        lambda: language(tied=False),
        lambda: images(),
        lambda: nn.Sequential(language()),
        lambda: nn.Linear(3, 4),
    ],
    ids=["sizes", "attributes", "ties", "class", "names", "small"],
)
def test_a_model_of_another_architecture(saved, other):
    """Sizes, attributes, ties and names must be those of the model that was pruned."""
    path, _ = saved
    refuses(other(), path, "does not fit this model")


def test_a_model_with_more_or_fewer_tensors_or_ties(tmp_path):
    """A layer that the plan does not touch is missed, too."""
    pruned(language(tied=False)).save(tmp_path / "x")
    more = language(tied=False)
    more.extra = nn.Parameter(torch.zeros(2))
    assert "extra" in refuses(more, tmp_path / "x")
    fewer = language(tied=False)
    del fewer.steps
    assert "steps" in refuses(fewer, tmp_path / "x")
    other = language(tied=False)
    other.steps = torch.zeros(2, dtype=torch.long)
    assert "steps" in refuses(other, tmp_path / "x")
    assert "tied" in refuses(language(), tmp_path / "x")


def test_a_model_without_values(saved):
    """On the meta device there is nothing to load into; after ``to_empty`` there is."""
    path, model = saved
    with torch.device("meta"):
        empty = Language().eval()
    with pytest.raises(CheckpointError, match="to_empty"):
        engine.load(path, empty)
    empty = empty.to_empty(device="cpu")
    empty.out.weight, empty.shift = empty.table.weight, torch.zeros(24)
    assert torch.equal(engine.load(path, empty)(TOKENS), model(TOKENS))


def test_a_failure_half_way_takes_all_back(saved, monkeypatch):
    """An interrupt when all tensors are set leaves the model as it was."""
    path, _ = saved
    fresh = language()
    before = facts(fresh)

    def interrupt():
        monkeypatch.undo()
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "clear_autocast_cache", interrupt)
    with pytest.raises(KeyboardInterrupt):
        engine.load(path, fresh)
    assert facts(fresh) == before


# --- saving that fails -------------------------------------------------------------------------------------


def test_a_plan_that_was_not_carried_out(tmp_path):
    """A dry run has nothing to save."""
    result = pruned(language(), dry_run=True)
    with pytest.raises(CheckpointError, match="carry it out"):
        result.save(tmp_path / "x")
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_is_not_there(tmp_path):
    """One line, no file."""
    with pytest.raises(CheckpointError, match="cannot write"):
        pruned(language()).save(tmp_path / "no" / "x")
    assert list(tmp_path.iterdir()) == []


def test_a_save_that_fails_leaves_the_old_file(saved, monkeypatch):
    """The new file takes the old one's place only when it is whole; nothing else is left there."""
    path, model = saved
    whole = path.read_bytes()
    model.steps = model.steps.to(torch.complex128)
    with pytest.raises(CheckpointError, match="steps"):
        engine.save(path, model, Plan())
    monkeypatch.setattr("os.replace", lambda *names: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(CheckpointError, match="disk full"):
        engine.save(path, language(), Plan())
    assert path.read_bytes() == whole and list(path.parent.iterdir()) == [path]


def test_extra_state_is_not_lost_in_silence(tmp_path):
    """What a module keeps besides tensors cannot go into the file, and that is said."""

    class Counting(nn.Linear):
        def get_extra_state(self):
            return {"seen": 3}

    model = nn.Sequential(Counting(3, 4), nn.ReLU(), nn.Linear(4, 2))
    with pytest.raises(CheckpointError, match="extra state"):
        pruned(model, torch.randn(2, 3)).save(tmp_path / "x")


# --- two plans as one --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("make", "x"), [(language, TOKENS), (images, IMAGE)], ids=["language", "images"])
@pytest.mark.parametrize("criterion", ["random", "magnitude"])
def test_two_plans_as_one(make, x, criterion):
    """Carrying out the composed plan is carrying out the first and then the second, bit for bit."""
    model = make()
    twice, once = copy.deepcopy(model), copy.deepcopy(model)
    first = engine.prune(twice, example_inputs=x, ratio=0.3, criterion=criterion).plan
    second = engine.prune(twice, example_inputs=x, ratio=0.5, criterion=criterion).plan
    both = first.followed_by(second)
    engine.apply(once, both)
    assert {name: value.tolist() for name, value in once.state_dict().items()} == {
        name: value.tolist() for name, value in twice.state_dict().items()
    }
    assert torch.equal(once(x), twice(x))
    assert Plan.from_json(both.to_json()) == both
    assert Plan().followed_by(both) == both == both.followed_by(Plan())


def test_two_plans_of_different_groups_and_three_plans():
    """What only one of them touches is taken over; the order of composing does not matter."""
    model = language()
    copied = copy.deepcopy(model)
    a = engine.prune(model, example_inputs=TOKENS, ratio=0.5, only=["hidden.out"]).plan
    b = engine.prune(model, example_inputs=TOKENS, ratio=0.25, skip=["hidden.out"]).plan
    c = engine.prune(model, example_inputs=TOKENS, ratio=0.5).plan
    assert a.followed_by(b).followed_by(c) == a.followed_by(b.followed_by(c))
    engine.apply(copied, a.followed_by(b).followed_by(c))
    assert torch.equal(copied(TOKENS), model(TOKENS))


def test_a_plan_that_does_not_follow():
    """A second plan made for the whole model, or for another, is refused."""
    first = pruned(language()).plan
    with pytest.raises(PlanError, match="later plan"):
        first.followed_by(pruned(language(), dry_run=True).plan)
    fine = Plan(groups={"a": [0, 1]}, tensors={"w": {0: [0, 1]}})
    with pytest.raises(PlanError, match="removes"):
        fine.followed_by(Plan(groups={"a": [2]}, tensors={"w": {0: [2]}}))


def test_scales_of_two_plans_are_multiplied():
    """Slots that go in the second step take their factors with them."""
    first = Plan(tensors={"w": {0: [0, 2, 3]}}, scales={"w": {0: [2.0, 4.0, 8.0]}, "v": {1: [3.0]}})
    second = Plan(tensors={"w": {0: [0, 2]}}, scales={"w": {0: [0.5, 0.25]}, "u": {0: [1.5]}})
    both = first.followed_by(second)
    assert both.tensors == {"w": {0: [0, 3]}}
    assert both.scales == {"w": {0: [1.0, 2.0]}, "v": {1: [3.0]}, "u": {0: [1.5]}}
