"""Torch-Pruning chooses the same slots, where it has the same criterion."""

import copy
import warnings

import pytest
import torch
import torch_pruning as tp
from prunus import engine
from torch import nn
from torchvision.models import get_model

X = torch.randn(2, 3, 64, 64)
TARGETS = torch.tensor([3, 500])


def random_model(name):
    """Scores of random weights lie so close that they tie but for rounding; scaled channels do not."""
    model = get_model(name, weights=None).eval()
    if name == "vgg16_bn":  # as it is, but its first linear layer is nine tenths of all time spent
        model.avgpool = nn.AdaptiveAvgPool2d(3)
        model.classifier[0] = nn.Linear(512 * 9, 256)
        model.classifier[3] = nn.Linear(256, 128)
        model.classifier[6] = nn.Linear(128, 10)
    for tensor in model.parameters():
        if tensor.dim() > 1:
            scales = torch.empty(len(tensor)).uniform_(0.5, 1.5)
            tensor.data.mul_(scales.view(-1, *[1] * (tensor.dim() - 1)))
        else:
            nn.init.uniform_(tensor, 0.5, 1.5)
    return model


def layer_before_the_output(model):
    return [layer for layer in model.modules() if isinstance(layer, (nn.Linear, nn.Conv2d))][-1]


def pruned_by_both(model, importance, criterion):
    """The tensors of two copies, half of whose slots are gone; gradients go along."""
    theirs, ours = copy.deepcopy(model), copy.deepcopy(model)
    for one, original in zip([*theirs.parameters(), *ours.parameters()], [*model.parameters()] * 2):
        one.grad = None if original.grad is None else original.grad.clone()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ignored = [layer_before_the_output(theirs)]
        pruner = tp.pruner.MagnitudePruner(
            theirs, X, importance=importance, pruning_ratio=0.5, ignored_layers=ignored
        )
        if isinstance(importance, tp.importance.GroupHessianImportance):
            importance.accumulate_grad(theirs)
        pruner.step()
    engine.prune(ours, example_inputs=X, ratio=0.5, criterion=criterion)
    return theirs.state_dict(), ours.state_dict()


def assert_same(theirs, ours, model):
    """Slices of the same random numbers are equal only if the same slots were kept."""
    assert theirs.keys() == ours.keys()
    differing = [name for name, tensor in theirs.items() if not torch.equal(tensor, ours[name])]
    assert differing == []
    before = sum(tensor.numel() for tensor in model.parameters())
    assert sum(tensor.numel() for tensor in ours.values()) < 0.5 * before


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "vgg16_bn", "densenet121", "mobilenet_v2"])
def test_magnitude_keeps_the_channels_that_torch_pruning_keeps(name):
    """Every convolution, linear and normalisation layer is left with the same weights."""
    model = random_model(name)
    assert_same(*pruned_by_both(model, tp.importance.GroupMagnitudeImportance(p=2), "magnitude"), model)


@pytest.mark.parametrize(
    "criterion, importance",
    [
        ("l1", tp.importance.GroupMagnitudeImportance(p=1)),
        ("bn_scale", tp.importance.BNScaleImportance()),
        ("lamp", tp.importance.LAMPImportance()),
    ],
)
def test_other_weights_criteria_agree(criterion, importance):
    """On a network with residual connections, so that groups have many members."""
    model = random_model("resnet18")
    assert_same(*pruned_by_both(model, importance, criterion), model)


@pytest.mark.parametrize(
    "criterion, importance",
    [
        ("taylor", tp.importance.GroupTaylorImportance(multivariable=True)),
        ("fisher", tp.importance.GroupHessianImportance()),
    ],
)
def test_gradient_criteria_agree(criterion, importance):
    """On a network without normalisation, whose gradients Torch-Pruning does not look at."""
    model = random_model("squeezenet1_1")
    nn.functional.cross_entropy(model(X), TARGETS).backward()
    assert_same(*pruned_by_both(model, importance, criterion), model)
