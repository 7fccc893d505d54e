"""The zoo's models, built with random weights, each with its example inputs."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import own_models
import torch
from torch import Tensor, nn

# Different numbers for different things, so that nothing is coupled by an accident of size.
WORDS = 100
TEXT = {"vocab_size": WORDS, "initializer_range": 0.1}
ENCODER = TEXT | {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 200,
    "max_position_embeddings": 40,
}
DECODER = ENCODER | {"use_cache": False, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
GROUPED = DECODER | {"num_attention_heads": 8, "num_key_value_heads": 4}
VISION = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 200,
    "image_size": 32,
    "patch_size": 4,
}


def words(*shape: int) -> Tensor:
    """Random tokens."""
    return torch.randint(3, WORDS - 1, shape)


def text() -> dict[str, Tensor]:
    """Two sentences, nothing padded."""
    return {"input_ids": words(2, 11), "attention_mask": torch.ones(2, 11, dtype=torch.long)}


def image(size: int = 32) -> dict[str, Tensor]:
    """One image as transformers models take it."""
    return {"pixel_values": torch.randn(1, 3, size, size)}


def text_and_image() -> dict[str, Tensor]:
    """A sentence that ends in the end-of-text token, which CLIP pools at, and an image."""
    inputs = text()
    inputs["input_ids"][:, -1] = WORDS - 1
    return inputs | image()


# model: (its config's name, the config's arguments, its example inputs)
TRANSFORMERS: dict[str, tuple[str, dict[str, Any], Callable[[], dict[str, Tensor]]]] = {
    "BertModel": ("BertConfig", ENCODER, text),
    "RobertaModel": ("RobertaConfig", ENCODER, text),
    "AlbertModel": ("AlbertConfig", ENCODER | {"embedding_size": 24}, text),
    "ElectraModel": ("ElectraConfig", ENCODER | {"embedding_size": 24}, text),
    "DistilBertModel": (
        "DistilBertConfig",
        TEXT | {"dim": 64, "n_layers": 2, "n_heads": 4, "hidden_dim": 200, "max_position_embeddings": 40},
        text,
    ),
    "GPT2LMHeadModel": (
        "GPT2Config",
        TEXT
        | {"n_embd": 64, "n_layer": 2, "n_head": 4, "n_inner": 200, "n_positions": 40, "use_cache": False}
        | {"bos_token_id": 1, "eos_token_id": 2},
        text,
    ),
    "OPTForCausalLM": (
        "OPTConfig",
        {
            key: value
            for key, value in DECODER.items()
            if key not in ("intermediate_size", "initializer_range")
        }
        | {"ffn_dim": 200, "init_std": 0.1, "word_embed_proj_dim": 64},
        text,
    ),
    "GPTNeoXForCausalLM": ("GPTNeoXConfig", DECODER, text),
    "LlamaForCausalLM": ("LlamaConfig", GROUPED, text),
    "MistralForCausalLM": ("MistralConfig", GROUPED, text),
    "Qwen3ForCausalLM": ("Qwen3Config", GROUPED | {"head_dim": 12}, text),
    "BartModel": (
        "BartConfig",
        {
            "vocab_size": WORDS,
            "d_model": 64,
            "init_std": 0.1,
            "max_position_embeddings": 40,
            "use_cache": False,
        }
        | {"encoder_layers": 2, "encoder_attention_heads": 4, "encoder_ffn_dim": 144}
        | {"decoder_layers": 2, "decoder_attention_heads": 8, "decoder_ffn_dim": 112}
        | {"bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 2},
        lambda: {"input_ids": words(2, 11), "decoder_input_ids": words(2, 7)},
    ),
    "ViTModel": ("ViTConfig", VISION | {"initializer_range": 0.1}, image),
    "SwinModel": (
        "SwinConfig",
        {"image_size": 32, "patch_size": 2, "embed_dim": 24, "depths": [2, 2], "num_heads": [2, 4]}
        | {"window_size": 4, "initializer_range": 0.1},
        image,
    ),
    "ConvNextV2Model": (
        "ConvNextV2Config",
        {"hidden_sizes": [16, 24, 40], "depths": [1, 2, 1], "num_stages": 3, "image_size": 64},
        lambda: image(64),
    ),
    "CLIPModel": (
        "CLIPConfig",
        {"projection_dim": 36}
        | {"vision_config": VISION}
        | {
            "text_config": {key: value for key, value in ENCODER.items() if key != "initializer_range"}
            | {"hidden_size": 48, "bos_token_id": 0, "pad_token_id": 1, "eos_token_id": WORDS - 1}
        },
        text_and_image,
    ),
    "Wav2Vec2Model": (
        "Wav2Vec2Config",
        {key: value for key, value in ENCODER.items() if key != "max_position_embeddings"}
        | {"conv_dim": (20, 28, 36), "conv_kernel": (10, 3, 2), "conv_stride": (5, 2, 2)}
        | {"num_feat_extract_layers": 3, "num_conv_pos_embeddings": 4, "num_conv_pos_embedding_groups": 4},
        lambda: {"input_values": torch.randn(1, 800)},
    ),
}

# The arguments between a graph model's input and output widths.
TORCH_GEOMETRIC = {"GCN": {}, "GAT": {"heads": 4}, "GraphSAGE": {}, "GIN": {}}


def build(kind: str, name: str) -> tuple[nn.Module, Any]:
    """The model of one row of ``zoo.txt`` in eval mode, and example inputs for it."""
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model, inputs = BUILDERS[kind](name)
    return model.eval(), inputs


def build_torchvision(name: str) -> tuple[nn.Module, Tensor]:
    import torchvision

    options = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    size = 299 if name == "inception_v3" else 256 if name == "swin_v2_t" else 224
    return torchvision.models.get_model(name, weights=None, **options), torch.randn(1, 3, size, size)


def build_timm(name: str) -> tuple[nn.Module, Tensor]:
    import timm

    model = timm.create_model(name, pretrained=False)
    if not model.num_classes:
        # A backbone's features are its output, whose width stays: it is judged as a classifier.
        model = timm.create_model(name, pretrained=False, num_classes=1000)
    return model, torch.randn(1, *model.pretrained_cfg["input_size"])


def build_transformers(name: str) -> tuple[nn.Module, dict[str, Tensor]]:
    import transformers

    config, options, inputs = TRANSFORMERS[name]
    return getattr(transformers, name)(getattr(transformers, config)(**options)), inputs()


def build_torch_geometric(name: str) -> tuple[nn.Module, dict[str, Tensor]]:
    from torch_geometric.nn import models

    model = getattr(models, name)(12, 32, num_layers=3, out_channels=7, **TORCH_GEOMETRIC[name])
    return model, own_models.graph_inputs(12)


def build_own(name: str) -> tuple[nn.Module, Any]:
    model, inputs = own_models.MODELS[name]
    return model(), inputs()


BUILDERS: dict[str, Callable[[str], tuple[nn.Module, Any]]] = {
    "torchvision": build_torchvision,
    "timm": build_timm,
    "transformers": build_transformers,
    "torch_geometric": build_torch_geometric,
    "own": build_own,
}
