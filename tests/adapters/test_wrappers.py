"""Models in wrappers: those that keep sizes are refused, or told of a prune; the others are pruned."""

import gc

import pytest
import torch
from oracle import check
from prunus import PlanError, PrunusError, VerificationError, engine
from prunus.adapters.apply import carry_out
from torch import nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
from torch.nn.parallel import DataParallel, DistributedDataParallel
from torch.nn.utils import prune
from wrapped_nets import OPERATIONS, Net, example, mask


def test_a_wrapper_is_refused(process_group):
    """What is in it is to be pruned, and wrapped again, whatever is asked for."""
    wrapper = DistributedDataParallel(Net())
    for operation in OPERATIONS.values():
        with pytest.raises(PlanError, match=r"the model is wrapped in Dist.*\n.*engine\.prune\(ddp\.module"):
            operation(wrapper)
    assert wrapper(example()).shape == (4, 8)
    assert wrapper.module.body[0].out_features == 32


def test_a_wrapper_inside_is_named(process_group):
    """A trainer's own module may hold one."""
    system = nn.ModuleDict({"net": DistributedDataParallel(Net())})
    with pytest.raises(PlanError, match=r"^net is wrapped in DistributedDataParallel"):
        engine.analyze(system, example())


@pytest.mark.parametrize("options", [{}, {"gradient_as_bucket_view": True}, {"static_graph": True}])
@pytest.mark.parametrize("part", ["all", "body"])
def test_the_old_wrapper_runs_no_more(process_group, options, part):
    """Whether the whole was pruned or a part; wrapped again, it trains on."""
    net = Net()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    wrapper = DistributedDataParallel(net, **options)
    train(wrapper, optimizer)
    pruned = net if part == "all" else net.body
    result = engine.prune(pruned, example_inputs=example(), optimizer=optimizer)
    assert result.plan.tensors and net.body[0].out_features == 16
    with pytest.raises(PlanError, match=r"was pruned, .*old sizes\nwrap the model again"):
        wrapper(example())
    train(DistributedDataParallel(net, **options), optimizer)
    assert net.body[0].weight.grad.shape == (16, 16)


def train(model, optimizer):
    for _ in range(2):
        optimizer.zero_grad()
        model(example()).square().mean().backward()
        optimizer.step()


def test_pruned_twice_it_says_it_once(process_group):
    """Also where a wrapper was found and told before."""
    net = Net()
    wrapper = DistributedDataParallel(net)
    for _ in range(2):
        engine.prune(net, example_inputs=example())
    assert len(wrapper._forward_pre_hooks) == 1


def test_a_wrapper_that_the_collector_does_not_show(process_group):
    """``gc.freeze`` is used in training loops."""
    net = Net()
    wrapper = DistributedDataParallel(net)
    gc.freeze()
    try:
        engine.prune(net, example_inputs=example())
        assert gc.get_freeze_count()
    finally:
        gc.unfreeze()
    with pytest.raises(PlanError, match="wrap the model again"):
        wrapper(example())


def test_a_checkpoint_in_a_wrapped_model(process_group, tmp_path):
    """Loading one changes sizes, too."""
    result = engine.prune(Net(), example_inputs=example())
    result.save(tmp_path / "half.safetensors")
    net = Net()
    wrapper = DistributedDataParallel(net)
    engine.load(tmp_path / "half.safetensors", net)
    with pytest.raises(PlanError, match="wrap the model again"):
        wrapper(example())


LOOKING = {
    "analyze": lambda net: engine.analyze(net, example()),
    "planning": lambda net: engine.prune(net, example_inputs=example(), dry_run=True),
    "nothing to remove": lambda net: engine.prune(net, example_inputs=example(), ratio=0),
    "by data": lambda net: engine.prune(
        net,
        example_inputs=example(),
        dry_run=True,
        criterion="taylor",
        data=[example()],
        loss=lambda model, batch: model(batch).sum(),
        compensate="mean",
    ),
    "scheduling": lambda net: engine.Schedule(net, example_inputs=example()),
    "masking": lambda net: mask(net, engine.prune(Net(), example_inputs=example(), dry_run=True).plan),
    "recalibrating": lambda net: engine.recalibrate(net, [example()]),
    "a failed prune": lambda net: fail(net),
}


def fail(net):
    """Prune what fails once it is pruned."""
    handle = net.register_forward_pre_hook(lambda module, args: 1 / (module.body[0].weight.numel() - 256))
    try:
        with pytest.raises(PrunusError):
            engine.prune(net, example_inputs=example())
    finally:
        handle.remove()


@pytest.mark.parametrize("name", LOOKING)
def test_looking_leaves_a_wrapper_its_gradients(process_group, name):
    """Its hooks are on what collects the gradients, which must be the same afterwards."""
    net = Net()
    wrapper = DistributedDataParallel(net)
    summed = []
    wrapper.register_comm_hook(None, lambda state, bucket: sums(summed, bucket))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    train(wrapper, optimizer)
    LOOKING[name](net)
    del summed[:]
    train(wrapper, optimizer)
    assert sum(summed) == 2 * sum(one.numel() for one in net.parameters())


def test_hooks_on_what_collects_a_gradient():
    """Nothing leads to them: they hear of looking nothing, and of what was pruned nothing more."""
    net, heard = Net(), []
    weight = net.body[0].weight
    collects = weight.view_as(weight).grad_fn.next_functions[0][0]
    collects.register_hook(lambda *gradients: heard.append(1))
    engine.analyze(net, example())
    net(example()).sum().backward()
    assert len(heard) == 1
    engine.prune(net, example_inputs=example())
    net(example()).sum().backward()
    assert len(heard) == 1 and weight.grad.shape == (16, 16)


def sums(summed, bucket):
    summed.append(bucket.buffer().numel())
    done = torch.futures.Future()
    done.set_result(bucket.buffer())
    return done


def test_a_wrapper_of_what_was_not_pruned_runs_on(process_group):
    """One of another model, of a copy, of a model of which nothing went, or was put back."""
    net, other, average = Net(), Net(), torch.optim.swa_utils.AveragedModel(Net())
    wrappers = [DistributedDataParallel(one) for one in (net, other, average)]
    engine.prune(Net(), example_inputs=example())
    plan = engine.prune(net, example_inputs=example(), dry_run=True).plan
    engine.prune(net, example_inputs=example(), ratio=0)

    def fails():
        raise VerificationError("no")

    with pytest.raises(VerificationError):
        carry_out(net, plan, check=fails)
    for wrapper in wrappers:
        assert wrapper(example()).shape == (4, 8)
        assert not wrapper._forward_pre_hooks


def test_nothing_is_searched_without_a_process_group(monkeypatch):
    """Looking at all objects takes a while."""

    def looks():
        raise AssertionError("all objects are looked at")

    monkeypatch.setattr(gc, "get_objects", looks)
    assert engine.prune(Net(), example_inputs=example()).plan.tensors


def test_replicated_by_hooks(process_group):
    """`replicate` leaves the model its class and its names."""
    replicate = pytest.importorskip("torch.distributed._composable.replicate").replicate
    net = replicate(Net())
    net(example())  # which makes the buckets
    for model in (net, net.body):
        with pytest.raises(PlanError, match="prune the model before `replicate`"):
            engine.prune(model, example_inputs=example())
    assert net.body[0].out_features == 32


# --- wrappers that are fine --------------------------------------------------------------------------------


def masked(net):
    """As torch's own pruning leaves it."""
    prune.ln_structured(net.body[0], "weight", 0.5, n=2, dim=0)
    prune.l1_unstructured(net.body[2], "weight", 0.3)
    return net


def with_hooks(net):
    """As attribution and per-sample gradients put them on."""
    for module in net.modules():
        module.register_full_backward_hook(lambda *gradients: None)
        module.register_full_backward_pre_hook(lambda *gradients: None)
    return net


def with_a_checkpoint(net):
    net.body = checkpoint_wrapper(net.body)
    return net


class Stateless(nn.Module):
    """Calls a module with parameters that it computes."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        weights = {name: 2 * weight for name, weight in self.net.named_parameters()}
        return torch.func.functional_call(self.net, weights, (x,))


def accelerated(net):
    accelerate = pytest.importorskip("accelerate")
    return accelerate.Accelerator(cpu=True).prepare(net)


def cast_by_layer(net):
    big_modeling = pytest.importorskip("accelerate.big_modeling")
    big_modeling.attach_layerwise_casting_hooks(net, torch.bfloat16, torch.float32)
    return net


def adapted(net):
    peft = pytest.importorskip("peft")
    options = peft.LoraConfig(target_modules=["body.0", "body.2"], r=4, init_lora_weights=False)
    return peft.get_peft_model(net, options)


def in_fabric(net):
    lightning = pytest.importorskip("lightning")
    return lightning.Fabric(accelerator="cpu", devices=1).setup(net)


WRAPPERS = {
    "DataParallel": DataParallel,
    "AveragedModel": torch.optim.swa_utils.AveragedModel,
    "compiled": lambda net: torch.compile(net, backend="eager"),
    "traced by fx": torch.fx.symbolic_trace,
    "checkpointed": with_a_checkpoint,
    "functional_call": Stateless,
    "masked": masked,
    "with hooks": with_hooks,
    "accelerate": accelerated,
    "cast by layer": cast_by_layer,
    "LoRA": adapted,
    "Fabric": in_fabric,
}


@pytest.mark.parametrize("name", WRAPPERS)
def test_wrappers_that_hold_no_sizes(name):
    """They are pruned like any module, and the pruned one is the masked original."""
    model, x = WRAPPERS[name](Net()), example()
    plan = engine.prune(model, example_inputs=x, dry_run=True).plan
    assert len(plan.groups) >= 2
    check(model, x, plan)


def test_an_exported_program_as_a_module():
    """Its graph is a module like any other, which knows its sizes only by its weights."""
    module, x = torch.export.export(Net(), (example(),)).module(), example()
    whole = module(x)
    result = engine.prune(module, example_inputs=x)
    assert len(result.plan.groups) == 2 and result.after < result.before
    assert module(x).shape == whole.shape


def test_an_averaged_model_takes_the_plan():
    """The copy of which training keeps the average is pruned by the plan of the model."""
    net = Net()
    average = torch.optim.swa_utils.AveragedModel(net)
    engine.apply(average.module, engine.prune(net, example_inputs=example()).plan)
    average.update_parameters(net)
    x = example()
    assert torch.equal(average(x), net(x))


def test_data_parallel_on_several_devices():
    """Its copies run beside each other, where no trace sees them."""
    model = DataParallel(Net())
    model.device_ids = [0, 1]
    with pytest.raises(PlanError, match=r"the model is wrapped in DataParallel.*\nprune its \.module"):
        engine.prune(model, example_inputs=example())
