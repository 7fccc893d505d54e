"""The zoo's models, built with random weights, each with its example inputs."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import own_models
import torch
import zoo_packages
from torch import Tensor, nn
from zoo_transformers import TRANSFORMERS

# Options and the input of a model, where they are not the usual ones.
DETECTOR = {"weights_backbone": None, "num_classes": 7, "min_size": 96, "max_size": 96}
# Nothing overlaps too much, so that weights that are nearly the same find as many boxes in the same order.
ROIS = {"rpn_nms_thresh": 1.0, "rpn_post_nms_top_n_test": 8, "box_nms_thresh": 1.0, "box_score_thresh": 0.0}
FIRST = {"box_detections_per_img": 5}
TORCHVISION: dict[str, tuple[dict[str, Any], Callable[[], Any]]] = {
    "googlenet": ({"init_weights": False}, lambda: image(224)),
    "inception_v3": ({"init_weights": False}, lambda: image(299)),
    "swin_v2_t": ({}, lambda: image(256)),
    "mvit_v2_s": ({}, lambda: torch.randn(1, 3, 16, 224, 224)),
    "fasterrcnn_mobilenet_v3_large_320_fpn": (DETECTOR | ROIS | FIRST, lambda: ([torch.rand(3, 96, 96)],)),
    "keypointrcnn_resnet50_fpn": (DETECTOR | ROIS | FIRST, lambda: ([torch.rand(3, 96, 96)],)),
    "retinanet_resnet50_fpn": (
        DETECTOR | {"nms_thresh": 1.0, "score_thresh": 0.0, "topk_candidates": 5},
        lambda: ([torch.rand(3, 96, 96)],),
    ),
}
# Images smaller than the default.
TIMM_SIZES = {"sam2_hiera_tiny": 224}
# The arguments between a graph model's input and output widths, and those of a single layer.
TORCH_GEOMETRIC = {"GCN": {}, "GAT": {"heads": 4}, "GraphSAGE": {}, "GIN": {}}
GRAPH_LAYERS = {"GatedGraphConv": (32, 2)}


def image(size: int) -> Tensor:
    """One image."""
    return torch.randn(1, 3, size, size)


def build(kind: str, name: str) -> tuple[nn.Module, Any]:
    """The model of one row of ``zoo.txt`` in eval mode, and example inputs for it."""
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model, inputs = BUILDERS[kind](name)
    return model.eval(), inputs


def build_torchvision(name: str) -> tuple[nn.Module, Any]:
    import torchvision

    options, inputs = TORCHVISION.get(name, ({}, lambda: image(224)))
    return torchvision.models.get_model(name, weights=None, **options), inputs()


def build_timm(name: str) -> tuple[nn.Module, Tensor]:
    import timm

    model = timm.create_model(name, pretrained=False)
    if not model.num_classes:
        # A backbone's features are its output, whose width stays: it is judged as a classifier.
        model = timm.create_model(name, pretrained=False, num_classes=1000)
    size = TIMM_SIZES.get(name)
    return model, image(size) if size else torch.randn(1, *model.pretrained_cfg["input_size"])


def build_transformers(name: str) -> tuple[nn.Module, dict[str, Tensor]]:
    import transformers

    config, options, inputs = TRANSFORMERS[name]
    return getattr(transformers, name)(getattr(transformers, config)(**options)), inputs()


def build_torch_geometric(name: str) -> tuple[nn.Module, dict[str, Tensor]]:
    from torch_geometric import nn as layers

    if name in GRAPH_LAYERS:
        model = GraphLayer(getattr(layers, name)(*GRAPH_LAYERS[name]))
    else:
        made = getattr(layers.models, name)
        model = made(12, 32, num_layers=3, out_channels=7, **TORCH_GEOMETRIC[name])
    return model, own_models.graph_inputs(12)


class GraphLayer(nn.Module):
    """A single layer for graphs, with linear layers before and behind it."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.enter, self.layer, self.leave = nn.Linear(12, 32), layer, nn.Linear(32, 7)

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        return self.leave(self.layer(self.enter(x).relu(), edge_index).relu())


def build_own(name: str) -> tuple[nn.Module, Any]:
    model, inputs = own_models.MODELS[name]
    return model(), inputs()


BUILDERS: dict[str, Callable[[str], tuple[nn.Module, Any]]] = {
    "torchvision": build_torchvision,
    "timm": build_timm,
    "transformers": build_transformers,
    "torch_geometric": build_torch_geometric,
    "own": build_own,
    **{package: partial(zoo_packages.build, package) for package in zoo_packages.PACKAGES},
}
