"""The configs of the zoo's transformers, small, and what each is called with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

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

PYRAMID = {
    "image_size": 64,
    "patch_size": 2,
    "embed_dim": 24,
    "depths": [1, 1, 1, 1],
    "num_heads": [2, 2, 4, 4],
    "window_size": 4,
    "initializer_range": 0.1,
    "out_features": ["stage1", "stage2", "stage3", "stage4"],
}
SPEECH = {
    **{key: value for key, value in ENCODER.items() if key != "max_position_embeddings"},
    "conv_dim": (20, 28, 36),
    "conv_kernel": (10, 3, 2),
    "conv_stride": (5, 2, 2),
    "num_feat_extract_layers": 3,
    "num_conv_pos_embeddings": 4,
    "num_conv_pos_embedding_groups": 4,
}


def words(*shape: int) -> Tensor:
    """Random tokens."""
    return torch.randint(3, WORDS - 1, shape)


def text(sentences: int = 2) -> dict[str, Tensor]:
    """Sentences, nothing padded."""
    return {"input_ids": words(sentences, 11), "attention_mask": torch.ones(sentences, 11, dtype=torch.long)}


def two_texts() -> dict[str, Tensor]:
    """Sentences to read and to write."""
    return {"input_ids": words(2, 11), "decoder_input_ids": words(2, 7)}


def waves() -> dict[str, Tensor]:
    """Sound, one channel."""
    return {"input_values": torch.randn(1, 800)}


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
        two_texts,
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
    "Wav2Vec2Model": ("Wav2Vec2Config", SPEECH, waves),
    "HubertModel": ("HubertConfig", SPEECH, waves),
    "WavLMForCTC": ("WavLMConfig", SPEECH, waves),
    "MimiModel": (
        "MimiConfig",
        {
            "hidden_size": 64,
            "num_filters": 8,
            "upsampling_ratios": [5, 4],
            "sampling_rate": 800,
            "upsample_groups": 64,
        }
        | {"num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 4, "head_dim": 16}
        | {"intermediate_size": 200, "sliding_window": 20, "codebook_size": 64, "codebook_dim": 24}
        | {"vector_quantization_hidden_dimension": 24, "num_quantizers": 4},
        lambda: {"input_values": torch.randn(1, 1, 800)},
    ),
    "FastSpeech2ConformerModel": (
        "FastSpeech2ConformerConfig",
        {"hidden_size": 48, "vocab_size": WORDS, "num_mel_bins": 20}
        | {"encoder_layers": 1, "encoder_num_attention_heads": 2, "encoder_linear_units": 112}
        | {"decoder_layers": 1, "decoder_num_attention_heads": 4, "decoder_linear_units": 144}
        | {"speech_decoder_postnet_layers": 3, "speech_decoder_postnet_units": 36}
        | {"duration_predictor_channels": 28, "energy_predictor_channels": 52, "pitch_predictor_channels": 60}
        | {"decoder_kernel_size": 7},
        lambda: {"input_ids": words(1, 11)},
    ),
    "PLBartModel": (
        "PLBartConfig",
        {"vocab_size": WORDS, "d_model": 64, "init_std": 0.1, "max_position_embeddings": 40}
        | {"encoder_layers": 2, "encoder_attention_heads": 4, "encoder_ffn_dim": 144, "use_cache": False}
        | {"decoder_layers": 2, "decoder_attention_heads": 8, "decoder_ffn_dim": 112},
        two_texts,
    ),
    "SwitchTransformersModel": (
        "SwitchTransformersConfig",
        {"vocab_size": WORDS, "d_model": 64, "d_kv": 12, "d_ff": 200, "num_heads": 4, "use_cache": False}
        | {"num_layers": 2, "num_sparse_encoder_layers": 1, "num_decoder_layers": 2}
        | {"num_sparse_decoder_layers": 1, "num_experts": 3},
        two_texts,
    ),
    "MixtralForCausalLM": (
        "MixtralConfig",
        GROUPED | {"intermediate_size": 112, "num_local_experts": 4, "num_experts_per_tok": 2},
        text,
    ),
    "OpenAIPrivacyFilterModel": (
        "OpenAIPrivacyFilterConfig",
        GROUPED
        | {"intermediate_size": 112, "head_dim": 12, "sliding_window": 6}
        | {"num_local_experts": 4, "num_experts_per_tok": 2},
        text,
    ),
    "Qwen3NextForCausalLM": (
        "Qwen3NextConfig",
        GROUPED
        | {"num_hidden_layers": 4, "head_dim": 16, "linear_num_key_heads": 2, "linear_num_value_heads": 6}
        | {"linear_key_head_dim": 14, "linear_value_head_dim": 10, "num_experts": 4, "num_experts_per_tok": 2}
        | {"moe_intermediate_size": 112, "shared_expert_intermediate_size": 56},
        text,
    ),
    # The patches come in random order, which only the pooled ones do not show.
    "ViltForQuestionAnswering": (
        "ViltConfig",
        VISION | ENCODER | {"patch_size": 8, "num_labels": 7},
        lambda: text(1) | image(),
    ),
    "GitModel": (
        "GitConfig",
        DECODER | {"vision_config": VISION | {"hidden_size": 48, "intermediate_size": 144, "patch_size": 8}},
        lambda: text(1) | image(),
    ),
    "MaskFormerModel": (
        "MaskFormerConfig",
        {"fpn_feature_size": 96, "mask_feature_size": 28}
        | {"backbone_config": {"model_type": "swin"} | PYRAMID}
        | {
            "decoder_config": {"model_type": "detr", "d_model": 64, "num_queries": 6}
            | {"decoder_layers": 2, "decoder_attention_heads": 4, "decoder_ffn_dim": 144}
            | {"encoder_layers": 2, "encoder_attention_heads": 4, "encoder_ffn_dim": 112}
        },
        lambda: image(64),
    ),
    "YolosForObjectDetection": (
        "YolosConfig",
        VISION | {"image_size": [32, 48], "patch_size": 8, "num_detection_tokens": 6},
        lambda: {"pixel_values": torch.randn(1, 3, 32, 48)},
    ),
    "VJEPA2Model": (
        "VJEPA2Config",
        {"patch_size": 8, "crop_size": 32, "frames_per_clip": 4, "hidden_size": 96}
        | {"num_attention_heads": 4, "num_hidden_layers": 2, "mlp_ratio": 3}
        | {"pred_hidden_size": 72, "pred_num_attention_heads": 3, "pred_num_hidden_layers": 2},
        lambda: {"pixel_values_videos": torch.randn(1, 4, 3, 32, 32)},
    ),
    # Without register tokens it has a parameter with an axis of size 0.
    "DINOv3ViTModel": ("DINOv3ViTConfig", VISION | {"num_register_tokens": 0}, image),
}
