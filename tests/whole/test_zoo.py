"""A fifth of the zoo: every kind of model and every mechanism, the quickest of each."""

from __future__ import annotations

import pytest
import zoo
from zoo_packages import PACKAGES

ROWS = [
    "torchvision resnet18",  # residual connections
    "torchvision squeezenet1_1",  # concatenation, a convolution as classifier
    "torchvision mobilenet_v3_small",  # depthwise convolution, squeeze and excite
    "torchvision shufflenet_v2_x1_0",  # chunk, concatenation, channel shuffle
    "torchvision regnet_x_400mf",  # grouped convolution
    "timm convnext_atto",  # layer norm over channels, layer scale
    "timm deit_tiny_patch16_224",  # fused attention
    "timm efficientvit_b0",  # linear attention
    "timm ghostnet_050",  # slices of a concatenation
    "timm starnet_s050",  # two branches multiplied
    "timm fasternet_t0",  # a part of the channels only
    "timm poolformer_s12",  # pooling as token mixer, group norm
    "timm repghostnet_050",  # reparametrised branches
    "transformers BertModel",  # separate projections, pooler
    "transformers GPT2LMHeadModel",  # transposed linear layers, tied head
    "transformers LlamaForCausalLM",  # grouped queries, rotary positions, RMS norm
    "transformers SwinModel",  # windows, rolling, patch merging
    "transformers MixtralForCausalLM",  # stacked experts that data pick
    "transformers Qwen3NextForCausalLM",  # gated delta rule
    "torch_geometric GAT",  # scatter and segment softmax
    "own dgcnn",  # gathered neighbours
    "own enet",  # pooling undone
    "own lstm-text",  # recurrent layers
    "own weight-norm",  # parametrised weights
    "own shared",  # one module twice, tied embedding
    # Of packages that only `make zoo` installs.
    "monai SwinUNETR",
    "diffusers UNet2DModel",
    "segmentation_models_pytorch Unet",
    "ultralytics yolov8n.yaml",
    "x_transformers ViTransformerWrapper",
]


@pytest.mark.parametrize("row", ROWS)
def test_a_model_of_the_zoo(row):
    """Half of every group is pruned, the model runs, and random slots are exact."""
    kind, name = row.split()
    assert (kind, name) in zoo.rows()
    if kind in PACKAGES:
        pytest.importorskip(PACKAGES[kind][0], exc_type=ImportError)
    verdict = zoo.judge(kind, name)
    assert not verdict.failures, "\n".join([str(verdict), *verdict.details])


def test_a_graph_attention_network_written_by_hand():
    """Scatters and a segment softmax without a library around them."""
    verdict = zoo.judge("own", "gat")
    assert not verdict.failures, "\n".join([str(verdict), *verdict.details])


def test_a_row_that_cannot_be_built_is_a_failed_row():
    """The run goes on after a model that does not exist."""
    verdict = zoo.judge("own", "nowhere")
    assert verdict.failures == ["built: KeyError: 'nowhere'"]


def test_every_kind_is_there():
    """The fifth misses no kind of the whole."""
    assert {kind for kind, _ in zoo.rows()} == {row.split()[0] for row in ROWS}
