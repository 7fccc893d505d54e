"""Files whose sum fits and whose contents lie: only sizes of the model change, all else stays."""

from __future__ import annotations

import copy
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from chaos.saved import contents, saved
from prunus import engine
from prunus.adapters.archive import _sum
from prunus.errors import CheckpointError, PlanError
from safetensors.torch import save_file
from torch import nn

LANGUAGE = saved("language")


def refused(path: Path, one=LANGUAGE) -> str:
    """The one line with which loading fails, and leaves the model as it was."""
    model = one.fresh()
    before = contents(model, identities=True)
    with pytest.raises(CheckpointError) as caught:
        engine.load(path, model)
    assert contents(model, identities=True) == before
    message = str(caught.value)
    assert "\n" not in message and "\0" not in message and len(message) < 900
    return message


def written(path: Path, one=LANGUAGE, tensors=None, **metadata: str) -> Path:
    """A file with other metadata, or tensors, and the sum of that."""
    plain = {key: value for key, value in {**one.metadata, **metadata}.items() if key != "sha256"}
    found = {**one.tensors, **(tensors or {})}
    save_file(found, path, {**plain, "sha256": _sum(plain, found)})
    return path


def plan_with(one=LANGUAGE, **changes) -> str:
    return json.dumps({**json.loads(one.metadata["plan"]), **changes})


def setting(name: str, value, before=1) -> str:
    """A plan that sets one attribute more."""
    plan = json.loads(LANGUAGE.metadata["plan"])
    plan["attributes"][name] = value
    plan["before"].setdefault(name, before)
    return json.dumps(plan)


ATTRIBUTES = [
    *("_modules[hidden]", "_modules['hidden']", "_modules", "_parameters", "_buffers['gain']", "training"),
    *(
        "_forward_hooks",
        "_forward_hooks[0]",
        "hidden.training",
        "_non_persistent_buffers_set",
        "qkv",
        "steps",
    ),
    *("qkv.weight", "shift", "gain", "rate", "name", "norm.eps", "norm.normalized_shape", "forward", "nope"),
    *("norm.normalized_shape[1]", "norm.normalized_shape[-1]", "heads[0]", "heads.real", "nope.x", "", "."),
    *("..", "[0]", "heads.", "__class__", "__dict__", "heads\0", "h\u00e9ads", "\ud800", "a" * 10**6),
    "heads" + "[0]" * 10**5,
]


@pytest.mark.parametrize("name", ATTRIBUTES, ids=lambda name: repr(name)[:30])
@pytest.mark.parametrize("before", [1, 4])
def test_only_sizes_of_the_model_are_set(tmp_path, name, before):
    """No modules, hooks, flags, tensors, fractions, and nothing that is not there."""
    refused(written(tmp_path / "x", plan=setting(name, 1, before)))
    with pytest.raises(PlanError):
        engine.apply(LANGUAGE.fresh(), engine.Plan.from_json(setting(name, 1, before)))


@pytest.mark.parametrize("value", [-1, 0, True, 2.0, None, "2", [2], 10**6, 2**63, 10**400, float("nan")])
def test_only_to_sizes(tmp_path, value):
    """Whole numbers from 1 up, and not beyond all that the model had; what it was must be said, and be so."""
    assert "heads" in refused(written(tmp_path / "x", plan=setting("heads", value))) or value != value
    for before in (value, 3):
        refused(written(tmp_path / "x", plan=plan_with(before={"heads": before})))
    refused(written(tmp_path / "x", plan=plan_with(before={})))


def test_sizes_wherever_a_module_keeps_them(tmp_path):
    """In lists, dicts, tuples, shapes, config objects and of numpy: these change, and keep their kind."""
    one = saved("settings")
    model = engine.load(written(tmp_path / "x", one), one.fresh())
    assert type(model.count) is np.int64 and model.count == 8 and type(model.shape) is torch.Size
    assert model.shape == (8,) and model.sizes["wide"] == [8, 5] and model.ordered["width"] == 8
    assert model.config.width == 8 and model.config.flag is True and model.sizes[None] == 4


@pytest.mark.parametrize(
    "name",
    ["_modules", "_parameters['weight']", "_buffers['gain']", "_modules['qkv']", "nope.x", "qkv.weight.x"],
)
def test_only_what_a_forward_leaves_is_emptied(tmp_path, name):
    """Not what every module has, and no number either."""
    assert "empties" in refused(written(tmp_path / "x", plan=plan_with(made=[name])))
    model = engine.load(
        written(tmp_path / "x", plan=plan_with(made=["heads", "rate", "name"])), LANGUAGE.fresh()
    )
    assert (model.heads, model.rate, model.name) == (2, 0.5, "language")


@pytest.mark.parametrize(
    "steps",
    [[1, 0], [0, 0], [10**12, 1], [1, 1], [-1, 1], [1], [1, 1, 1], [2**62, 2**62], [True, 1], "no", None],
)
def test_memory_is_as_large_as_in_the_file(tmp_path, steps):
    """Steps with gaps or overlaps would load other weights, or take any amount of memory."""
    assert "strides" in refused(written(tmp_path / "x", strides=json.dumps({"qkv.weight": steps})))


def test_another_order_of_axes_has_the_same_weights(tmp_path):
    """As of a tensor that is transposed in memory."""
    path = written(
        tmp_path / "x", strides=json.dumps({"qkv.weight": [1, LANGUAGE.tensors["qkv.weight"].shape[0]]})
    )
    model = engine.load(path, LANGUAGE.fresh())
    assert torch.equal(model.qkv.weight, LANGUAGE.model.qkv.weight)


TEXTS = [
    *(
        "",
        "[]",
        "null",
        "3",
        "{",
        "{}}",
        '"',
        "\0",
        "[" * 10**5,
        '{"a":' * 10**5,
        '{"a": 1, "a": 1}',
        '{"a": NaN}',
    ),
    *('{"a": Infinity}', '{"a": 1e999}', '{"a": ' + "9" * 5000 + "}", '{"a": {}}', '{"a": [[]]}', '{"": ""}'),
]


@pytest.mark.parametrize("field", ["plan", "tied", "strides"])
@pytest.mark.parametrize("text", TEXTS, ids=lambda text: repr(text)[:20])
def test_a_text_that_is_none_of_ours(tmp_path, field, text):
    """Broken, endless, repeated, of other types: one line each."""
    refused(written(tmp_path / "x", **{field: text}))


@pytest.mark.parametrize("field", ["groups", "tensors", "attributes", "shapes", "before", "scales", "made"])
@pytest.mark.parametrize("value", [None, 3, "a", [3], {"a": None}, {"a": {"0": [1, 0]}}, {"a": {"x": [0]}}])
def test_every_field_of_a_plan_has_its_form(field, value):
    """The message names the field."""
    with pytest.raises(PlanError, match=field):
        engine.Plan.from_json(plan_with(**{field: value}))
    if field not in ("scales", "made"):
        plan = json.loads(plan_with())
        del plan[field]
        with pytest.raises(PlanError, match=field):
            engine.Plan.from_json(json.dumps(plan))


@pytest.mark.parametrize(
    "kept", [[], [0, 0], [1, 0], [-1], [10**6], [0.0], [True], ["0"], None, {"0": 0}, [[0]], [2**64]]
)
def test_slots_are_there_and_in_order(kept):
    """In groups and in tensors."""
    for field in ("groups", "tensors"):
        plan = json.loads(plan_with())
        name = next(iter(plan[field]))
        plan[field][name] = kept if field == "groups" else {"0": kept}
        if (field, kept) != ("groups", [10**6]):  # how large a group is, only its model knows
            with pytest.raises(PlanError, match=field):
                engine.Plan.from_json(json.dumps(plan))


def test_a_tied_tensor_is_pruned_in_one_way():
    """A plan that names it twice, with other slots, is refused."""
    plan = engine.Plan.from_json(LANGUAGE.metadata["plan"])
    kept = plan.tensors["table.weight"]
    other = {axis: sorted(set(range(16)) - set(slots)) for axis, slots in kept.items()}
    twice = copy.deepcopy(plan)
    twice.tensors["out.weight"], twice.shapes["out.weight"] = other, plan.shapes["table.weight"]
    model = LANGUAGE.fresh()
    before = contents(model, identities=True)
    with pytest.raises(PlanError, match="two ways"):
        engine.apply(model, twice)
    assert contents(model, identities=True) == before


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.complex64, torch.uint8])
def test_fractions_stay_fractions(tmp_path, dtype):
    """A weight of whole numbers is none, and a counter is not made of fractions."""
    weight = LANGUAGE.tensors["qkv.weight"].to(dtype)
    assert "qkv.weight" in refused(written(tmp_path / "x", tensors={"qkv.weight": weight}))
    assert "steps" in refused(written(tmp_path / "x", tensors={"steps": torch.tensor(3.0)}))


def test_what_is_no_file_is_not_opened(tmp_path):
    """A pipe would never end."""
    os.mkfifo(tmp_path / "pipe")
    assert "a pipe" in refused(tmp_path / "pipe")
    assert "a folder" in refused(tmp_path)
    assert "a device" in refused(Path("/dev/zero"))
    (tmp_path / "loop").symlink_to("loop")
    refused(tmp_path / "loop")


def test_a_state_of_a_schedule_that_lies():
    """Plan, counts and sizes are looked at before anything is changed."""
    make = lambda: nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))  # noqa: E731
    options = {"example_inputs": torch.randn(2, 6), "macs": 0.5, "steps": 2, "every": 1, "criterion": "l1"}
    first = engine.Schedule(make(), **options)
    first.step()
    state = first.state_dict()
    for change in (
        {"plan": None}, {"plan": "{}"}, {"plan": LANGUAGE.metadata["plan"]}, {"step": 3}, {"step": -1},
        {"step": 0.5}, {"iteration": None}, {"priced": float("nan")}, {"priced": "1"}, {"priced": 1e999},
        {"whole": None}, {"left": {}}, {"whole": {"0.out": 8.0}}, {"left": {"0.out": True}}, {"more": 1},
        {"plan": state["plan"].replace('"0.weight"', '"9.weight"')},
        {"plan": state["plan"].replace('{"0": [', '{"5": [')},
    ):  # fmt: skip
        model = make()
        schedule = engine.Schedule(model, **options)
        before, text = contents(model, identities=True), str(schedule)
        with pytest.raises(PlanError):
            schedule.load_state_dict({**state, **change})
        assert contents(model, identities=True) == before and str(schedule) == text, change
