"""A pruned model is a model like any other: it is compiled, exported, copied, saved and trained."""

from __future__ import annotations

import copy
import io
import pickle

import oracle
import pytest
import torch
from oracle import distance, randomise, run
from prunus import engine
from torch import Tensor, nn
from trained_nets import NETS, Residual, moved, perceptron


def pruned(kind: str) -> tuple[nn.Module, Tensor]:
    """A pruned net of one kind in eval mode, and an input."""
    make, batch = NETS[kind]
    model, x = make().eval(), batch()
    randomise(model, x)
    before = sum(parameter.numel() for parameter in model.parameters())
    engine.prune(model, example_inputs=x)
    assert sum(parameter.numel() for parameter in model.parameters()) < before
    return model, x


# --- other forms of the model -------------------------------------------------------------------------------


def as_exported(model: nn.Module, x: Tensor):
    """By torch.export."""
    return torch.export.export(model, (x,)).module()


def as_traced(model: nn.Module, x: Tensor):
    """By torch.jit.trace."""
    return torch.jit.trace(model, (x,), check_trace=False)


def as_compiled(model: nn.Module, x: Tensor):
    """By torch.compile."""
    return torch.compile(model, backend="aot_eager")


def as_copied(model: nn.Module, x: Tensor):
    """By copy.deepcopy."""
    return copy.deepcopy(model)


def as_pickled(model: nn.Module, x: Tensor):
    """By pickle."""
    return pickle.loads(pickle.dumps(model))


def as_saved(model: nn.Module, x: Tensor):
    """By torch.save of the whole model."""
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


FORMS = [as_exported, as_traced, as_compiled, as_copied, as_pickled, as_saved]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", NETS)
@pytest.mark.filterwarnings("ignore")
def test_another_form_of_a_pruned_model_computes_the_same(kind, form):
    """Nothing in the pruned model keeps it from being taken elsewhere."""
    model, x = pruned(kind)
    wanted = run(model, x)
    with torch.no_grad():
        output = form(model, x)(x)
    assert distance([output], wanted) < 1e-5


@pytest.mark.parametrize("kind", ["residual", "attentive"])
@pytest.mark.filterwarnings("ignore")
def test_a_pruned_model_goes_to_onnx(kind, tmp_path):
    """What onnxruntime computes from the file is what the model does."""
    pytest.importorskip("onnxscript")
    runtime = pytest.importorskip("onnxruntime")
    model, x = pruned(kind)
    file = tmp_path / "model.onnx"
    torch.onnx.export(model, (x,), file, dynamo=True, verbose=False)
    session = runtime.InferenceSession(str(file))
    output = session.run(None, {session.get_inputs()[0].name: x.numpy()})[0]
    assert distance([torch.from_numpy(output)], run(model, x)) < 1e-4


@pytest.mark.parametrize("kind", NETS)
def test_state_dict_goes_round(kind):
    """What one pruned model saves, another one that was pruned by the same plan loads."""
    make, batch = NETS[kind]
    model, other, x = make(), make(), batch()
    result = engine.prune(model, example_inputs=x)
    engine.apply(other, result.plan)
    other.load_state_dict(model.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(run(model, x), run(other, x), strict=True))


def test_a_tied_weight_is_still_one():
    """Embedding and head are the same parameter, and so after one more step."""
    model, x = pruned("tied")
    assert model.head.weight is model.embed.weight
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model(x).square().mean().backward()
    optimizer.step()
    assert model.head.weight is model.embed.weight
    assert len(list(model.parameters())) == 5


# --- compiled models ----------------------------------------------------------------------------------------


def counted():
    """A backend that counts the graphs that it is given."""
    graphs = []

    def backend(graph, example_inputs):
        graphs.append(graph)
        return graph

    return graphs, backend


def test_a_compiled_model_is_pruned():
    """It is analysed as if it were not compiled, and compiles again in its new shape."""
    graphs, backend = counted()
    model, x = Residual().eval(), torch.randn(2, 3, 5, 5)
    compiled = torch.compile(model, backend=backend)
    compiled(x)
    compiled_before = len(graphs)
    names = {group.name.removeprefix("_orig_mod.") for group in engine.analyze(compiled, x).groups}
    assert names == {group.name for group in engine.analyze(model, x).groups}
    assert len(graphs) == compiled_before
    engine.prune(compiled, example_inputs=x)
    with torch.no_grad():
        assert distance([compiled(x)], run(model, x)) < 1e-5
    assert model.conv1.weight.shape == (3, 4, 3, 3)
    assert len(graphs) > compiled_before


def test_a_model_that_is_compiled_in_place_or_in_part_is_pruned():
    """`Module.compile`, and compiled layers within a model."""
    _, backend = counted()
    model, x = perceptron(), torch.randn(2, 6)
    model.compile(backend=backend)
    model[2] = torch.compile(model[2], backend=backend)
    model(x)
    engine.prune(model, example_inputs=x)
    assert [tuple(model[i].weight.shape) for i in (0, 2, 4)] == [(8, 6), (6, 8), (5, 6)]
    assert model(x).shape == (2, 5)


def test_a_compiled_training_step_goes_on():
    """Forward, backward and optimizer of a compiled model after pruning half-way."""
    _, backend = counted()
    model, x = perceptron(), torch.randn(4, 6)
    compiled = torch.compile(model, backend=backend)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    losses = []
    for step in range(8):
        if step == 3:
            engine.prune(compiled, example_inputs=x, optimizer=optimizer)
        loss = (compiled(x) - 1).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[3]


# --- floating types -----------------------------------------------------------------------------------------

TOLERANCE = {torch.bfloat16: 5e-2, torch.float16: 5e-3}


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("kind", NETS)
def test_models_of_half_precision(kind, dtype):
    """The pruned model agrees with the masked original as far as the type goes."""
    make, batch = NETS[kind]
    model, x = make().to(dtype).eval(), moved(batch(), dtype)
    plan = engine.prune(model, example_inputs=x, dry_run=True).plan
    masked = oracle.run_masked(model, x, plan)
    engine.apply(model, plan)
    assert {parameter.dtype for parameter in model.parameters()} == {dtype}
    assert distance(run(model, x), masked) < TOLERANCE[dtype]


@pytest.mark.parametrize("kind", NETS)
def test_slicing_is_the_same_in_every_type(kind):
    """A model in bfloat16 gets the very slots of the same model in float32."""
    make, batch = NETS[kind]
    model, x = make().eval(), batch()
    half = copy.deepcopy(model).bfloat16()
    plan = engine.prune(model, example_inputs=x).plan
    engine.apply(half, plan)
    pairs = zip(model.parameters(), half.parameters(), strict=True)
    assert all(torch.equal(whole.bfloat16(), part) for whole, part in pairs)


def test_mixed_precision_goes_on():
    """Autocast, gradient scaler and optimizer, pruned half-way."""
    model, x = Residual(), torch.randn(8, 3, 5, 5)
    optimizer, scaler = torch.optim.Adam(model.parameters(), lr=0.01), torch.amp.GradScaler("cpu")
    losses = []
    for step in range(12):
        if step == 4:
            engine.prune(model, example_inputs=x, optimizer=optimizer)
        with torch.autocast("cpu", torch.bfloat16):
            loss = (model(x) - 1).square().mean()
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        losses.append(loss.item())
    assert losses[-1] < losses[4]
    assert all(parameter.dtype == torch.float32 for parameter in model.parameters())


def test_pruning_within_autocast():
    """The trace and the verification run as the caller's forward would."""
    model, x = Residual().eval(), torch.randn(2, 3, 5, 5)
    with torch.autocast("cpu", torch.bfloat16):
        engine.prune(model, example_inputs=x)
    assert model.conv1.weight.dtype == torch.float32
    assert model(x).shape == (2, 5)


# --- gradients ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", NETS)
def test_gradients_gathered_before_are_sliced(kind):
    """Half of the gradient from before pruning, half from after: what a masked model would gather."""
    make, batch = NETS[kind]
    model, batches = make().double(), [moved(batch(), torch.double) for _ in range(2)]
    plan = engine.prune(model, example_inputs=batches[0], dry_run=True).plan
    oracle.mask(model, plan)
    whole = copy.deepcopy(model)
    model(batches[0]).square().mean().backward()
    engine.apply(model, plan)
    model(batches[1]).square().mean().backward()
    for x in batches:
        whole(x).square().mean().backward()
    for name, parameter in model.named_parameters():
        wanted = oracle.named_tensor(whole, name).grad
        for axis, kept in plan.tensors.get(name, {}).items():
            wanted = wanted.index_select(axis, torch.tensor(kept))
        torch.testing.assert_close(parameter.grad, wanted)


def test_training_goes_on_while_an_old_loss_is_still_held():
    """A loop holds the last loss, and with it a graph that remembers the shapes from before."""
    model, x = perceptron(), torch.randn(4, 6)
    hooked = []
    model[0].weight.register_post_accumulate_grad_hook(lambda parameter: hooked.append(parameter.grad.shape))
    loss = model(x).sum()
    loss.backward()
    engine.prune(model, example_inputs=x)
    model(x).sum().backward()
    assert loss.requires_grad
    assert all(parameter.grad.shape == parameter.shape for parameter in model.parameters())
    assert hooked == [(16, 6), (8, 6)]


# --- an accelerator -----------------------------------------------------------------------------------------


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("kind", NETS)
def test_models_on_an_accelerator(kind):
    """Masked, pruned with its optimizer, and trained on where they are."""
    make, batch = NETS[kind]
    model, x = make().cuda(), moved(batch(), "cuda")
    optimizer = torch.optim.Adam(model.parameters(), fused=True)
    for _ in range(2):
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()
    plan = engine.prune(model, example_inputs=x, dry_run=True).plan
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with engine.mask(model, plan):
        masked = run(model, x)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    engine.apply(model, plan, optimizer=optimizer)
    assert distance(run(model, x), masked) < 1e-4
    assert {parameter.device.type for parameter in model.parameters()} == {"cuda"}
    engine.recalibrate(model, [x])
    model(x).square().mean().backward()
    optimizer.step()
