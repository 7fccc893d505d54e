"""Models of smaller packages: how each is made, and what it is called with.

They come with the extra ``zoo-packages`` of pyproject.toml, which `make zoo` installs.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


def image(channels: int = 3, size: int = 64) -> Tensor:
    """One image."""
    return torch.randn(1, channels, size, size)


# row: (how the model is made from the module below, its example inputs)
MONAI = {
    "DynUNet": (
        lambda nets: nets.DynUNet(
            spatial_dims=3,
            in_channels=1,
            out_channels=4,
            kernel_size=[3, 3, 3],
            strides=[1, 2, 2],
            upsample_kernel_size=[2, 2],
            filters=[12, 20, 28],
            deep_supervision=True,
        ),
        lambda: torch.randn(1, 1, 16, 16, 16),
    ),
    "SwinUNETR": (
        lambda nets: nets.SwinUNETR(
            in_channels=1,
            out_channels=4,
            feature_size=24,
            depths=(1, 1, 1, 1),
            num_heads=(2, 2, 4, 4),
            window_size=4,
            spatial_dims=2,
        ),
        lambda: image(1),
    ),
}
DIFFUSERS = {
    "UNet2DModel": (
        lambda diffusers: diffusers.UNet2DModel(
            sample_size=16,
            block_out_channels=(16, 24),
            down_block_types=("DownBlock2D", "AttnDownBlock2D"),
            up_block_types=("AttnUpBlock2D", "UpBlock2D"),
            norm_num_groups=4,
            layers_per_block=1,
        ),
        lambda: (image(size=16), torch.tensor([7])),
    ),
    "QwenImageTransformer2DModel": (
        lambda diffusers: diffusers.QwenImageTransformer2DModel(
            in_channels=16,
            out_channels=4,
            num_layers=2,
            attention_head_dim=16,
            num_attention_heads=3,
            joint_attention_dim=20,
            axes_dims_rope=(4, 6, 6),
        ),
        lambda: {
            "hidden_states": torch.randn(1, 12, 16),
            "encoder_hidden_states": torch.randn(1, 7, 20),
            "encoder_hidden_states_mask": torch.ones(1, 7, dtype=torch.long),
            "timestep": torch.tensor([0.5]),
            "img_shapes": [(1, 3, 4)],
        },
    ),
}
X_TRANSFORMERS = {
    "TransformerWrapper": (
        lambda package: package.TransformerWrapper(
            num_tokens=100,
            max_seq_len=40,
            attn_layers=package.Decoder(dim=64, depth=2, heads=4, attn_dim_head=12, rotary_pos_emb=True),
        ),
        lambda: torch.randint(0, 100, (2, 11)),
    ),
    "ViTransformerWrapper": (
        lambda package: package.ViTransformerWrapper(
            image_size=32,
            patch_size=8,
            num_classes=5,
            attn_layers=package.Encoder(dim=64, depth=2, heads=4, attn_dim_head=12, ff_glu=True),
        ),
        lambda: image(size=32),
    ),
}


def _segmentation(name: str) -> tuple[Callable, Callable]:
    made = {"encoder_name": "resnet18", "encoder_weights": None, "classes": 5}
    return lambda package: getattr(package, name)(**made), image


def _detection(config: str) -> tuple[Callable, Callable]:
    return lambda tasks: tasks.DetectionModel(config, verbose=False), image


# package: (the module that has its models, its rows)
PACKAGES: dict[str, tuple[str, dict[str, tuple[Callable[[Any], nn.Module], Callable[[], Any]]]]] = {
    "monai": ("monai.networks.nets", MONAI),
    "diffusers": ("diffusers", DIFFUSERS),
    "x_transformers": ("x_transformers", X_TRANSFORMERS),
    "segmentation_models_pytorch": (
        "segmentation_models_pytorch",
        {name: _segmentation(name) for name in ("Unet", "FPN", "DeepLabV3Plus")},
    ),
    "ultralytics": (
        "ultralytics.nn.tasks",
        {config: _detection(config) for config in ("yolov8n.yaml", "yolo11n.yaml")},
    ),
}


def build(package: str, name: str) -> tuple[nn.Module, Any]:
    """The model of a row, and example inputs for it."""
    module, rows = PACKAGES[package]
    make, inputs = rows[name]
    return make(importlib.import_module(module)), inputs()
