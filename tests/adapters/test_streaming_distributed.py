"""A checkpoint of torch.distributed is pruned as the same one in safetensors."""

import shutil

import pytest
import tiny_language
import torch
import transformers
from prunus import CheckpointError, engine
from torch.distributed import checkpoint

pytestmark = pytest.mark.filterwarnings("ignore:torch.distributed is disabled")


@pytest.fixture
def folders(tmp_path):
    """The same model in both forms."""
    torch.manual_seed(0)
    model = tiny_language.llama(tie_word_embeddings=True).to(torch.bfloat16)
    model.save_pretrained(tmp_path / "plain")
    checkpoint.save(model.state_dict(), checkpoint_id=tmp_path / "ranks", no_dist=True)
    for file in ("config.json", "generation_config.json"):
        shutil.copy(tmp_path / "plain" / file, tmp_path / "ranks")
    return tmp_path


def test_it_is_what_the_same_in_safetensors_is(folders):
    """Byte for byte, and it loads."""
    for form in ("plain", "ranks"):
        engine.prune_checkpoint(folders / form, folders / f"{form}-half", ratio=0.5, only=["*"])
    one, other = (
        {file.name: file.read_bytes() for file in (folders / f"{form}-half").iterdir()}
        for form in ("plain", "ranks")
    )
    one.pop("README.md"), other.pop("README.md")  # which names the source
    assert one == other
    transformers.AutoModelForCausalLM.from_pretrained(folders / "ranks-half")


@pytest.mark.parametrize("fault", ["cut off", "missing", "damaged", "no config"])
def test_what_is_not_whole_is_one_clear_error(folders, fault):
    """And there is no target."""
    source = folders / "ranks"
    (file,) = source.glob("*.distcp")
    if fault == "cut off":
        file.write_bytes(file.read_bytes()[:-300])
    elif fault == "missing":
        file.unlink()
    elif fault == "damaged":
        (source / ".metadata").write_bytes(b"no pickle")
    else:
        (source / "config.json").unlink()
    with pytest.raises(CheckpointError, match="copy it"):
        engine.prune_checkpoint(source, folders / "half", ratio=0.5)
    assert not (folders / "half").exists()


def test_values_that_are_damaged_are_one_clear_error(folders):
    """In the middle of the work: each part is read when it is wanted."""
    (file,) = (folders / "ranks").glob("*.distcp")
    file.write_bytes(bytes(len(file.read_bytes())))
    with pytest.raises(CheckpointError, match="damaged"):
        engine.prune_checkpoint(folders / "ranks", folders / "half", ratio=0.5)
    assert not (folders / "half").exists()
