"""The command line on folders of transformers, and with data, weights and an output for any model."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
import transformers
from prunus.cli import main
from prunus.cli.data import read_data
from prunus.errors import PrunusError
from residual_net import SOURCE
from tiny_language import FIRST, llama, tokenizer

TEXT = "\n".join(" ".join(f"w{(7 * line + 3 * word) % 35}" for word in range(30)) for line in range(20))


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A folder with a small Llama and its tokenizer."""
    folder = tmp_path_factory.mktemp("hub") / "small"
    tokenizer(eos_token="<end>").save_pretrained(folder)
    llama(intermediate_size=90, max_position_embeddings=64).save_pretrained(folder)
    return folder


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    (tmp_path / "texts.txt").write_text(TEXT)
    (tmp_path / "own_nets.py").write_text(SOURCE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def run(capsys, *words):
    status = main([str(word) for word in words])
    said = capsys.readouterr()
    assert status == 0, said.err
    return said.out


def test_from_a_folder_to_a_folder(source, here, capsys):
    said = run(
        capsys,
        "prune",
        f"hf:{source}",
        "--params",
        0.8,
        "--data",
        "texts.txt",
        "--compensate",
        "lstsq",
        "-o",
        "half",
    )
    assert "held out 2 of the texts: loss" in said and "wrote half, plain" in said
    model = transformers.AutoModelForCausalLM.from_pretrained(here / "half")
    assert model.model.layers[0].mlp.up_proj.out_features < 90
    words = transformers.AutoTokenizer.from_pretrained(here / "half")
    assert words("w0 w1")["input_ids"] == [FIRST, FIRST + 1]
    assert f"{sum(one.numel() for one in model.parameters()):,} after" in said


def test_json_has_the_loss_and_the_form(source, capsys):
    said = run(
        capsys, "prune", f"hf:{source}", "--params", 0.8, "--data", "texts.txt", "-o", "half", "--json"
    )
    found = json.loads(said)
    assert found["folder"] == "plain" and 0 < found["loss"]["before"] < 10 and 0 < found["loss"]["after"] < 10


@pytest.mark.parametrize("command", [["groups"], ["cost"], ["why", "model.layers.0.mlp.up_proj"], ["report"]])
def test_every_command_looks_at_a_folder(command, source, capsys):
    name, *more = command
    assert run(capsys, name, f"hf:{source}", *more)


def test_the_type_is_converted(source, here, capsys):
    run(capsys, "prune", f"hf:{source}", "--params", 0.8, "--dtype", "bfloat16", "-o", "half")
    assert transformers.AutoModelForCausalLM.from_pretrained(here / "half").dtype == torch.bfloat16


def test_jsonl_and_lines_are_the_same_texts(source, here, capsys):
    (here / "texts.jsonl").write_text(
        "".join(json.dumps({"text": line}) + "\n" for line in TEXT.splitlines())
    )
    options = [f"hf:{source}", "--params", 0.8, "--json"]
    plans = [
        json.loads(run(capsys, "prune", *options, "--data", file))["plan"]
        for file in ("texts.txt", "texts.jsonl")
    ]
    assert plans[0] == plans[1]


def test_a_text_of_jsonl_may_have_any_character_but_ends_with_its_line(here):
    texts = ["w1\u2028w2\x85w3", "w4"]
    rows = [json.dumps({"text": text}, ensure_ascii=False) for text in texts]
    (here / "rows.jsonl").write_text("\ufeff" + "\n\n".join(rows), encoding="utf-8")
    assert read_data("rows.jsonl", None) == texts


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        ("rows.jsonl", '{"text": "w1"}\n\n{"text": w2}\n', "line 3 is no JSON: Expecting value at column 10"),
        ("rows.jsonl", '{"text": "w1"}\n{"content": "w2"}\n', 'line 2 is to be an object with "text"'),
        ("rows.json", '[{"text": "w1"}]', r"a \.json is no list of texts: write a \.jsonl"),
        ("rows.csv", "text\nw1\n", r"a \.csv is no list of texts"),
        ("rows.txt", " \n\n", "there are no data in rows.txt"),
    ],
)
def test_a_file_that_has_no_texts_says_where(name, text, why, here):
    (here / name).write_text(text)
    with pytest.raises(PrunusError, match=why):
        read_data(name, None)


def test_a_folder_without_a_tokenizer_says_how_to_have_one(here, capsys):
    llama().save_pretrained(here / "bare")
    assert main(["prune", "hf:bare", "--params", "0.8", "--data", "texts.txt"]) == 2
    assert "texts need a tokenizer, save it there by save_pretrained('bare')" in capsys.readouterr().err


def test_a_folder_that_is_not_there_is_called_so(capsys):
    assert main(["prune", "hf:nowhere", "--params", "0.8"]) == 2
    assert "cannot load nowhere: there is no such folder, and " in capsys.readouterr().err


def test_tokens_may_be_unsigned(source, here, capsys):
    np.save("tokens.npy", np.random.default_rng(0).integers(5, 40, (20, 16), dtype=np.uint16))
    assert run(capsys, "prune", f"hf:{source}", "--params", 0.8, "--data", "tokens.npy")


def test_other_models_have_weights_data_and_an_output(here, capsys):
    np.save("inputs.npy", np.random.default_rng(0).standard_normal((20, 3, 8, 8), dtype=np.float32))
    options = ["own_nets:Net", "--input", "1x3x8x8", "--criterion", "wanda", "--data", "inputs.npy"]
    run(capsys, "prune", *options, "-o", "half.safetensors")
    again = run(capsys, "prune", *options, "--weights", "half.safetensors", "--json")
    first = run(capsys, "prune", *options, "--json")
    assert json.loads(again)["parameters"]["before"] == json.loads(first)["parameters"]["after"]


@pytest.fixture
def pictures(here, tmp_path_factory):
    """A folder of pictures, and one with a small vision model and its processor."""
    source, images = tmp_path_factory.mktemp("vit"), pytest.importorskip("PIL.Image")
    small = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = transformers.ViTConfig(image_size=16, patch_size=8, **small)
    transformers.ViTForImageClassification(config).save_pretrained(source)
    transformers.ViTImageProcessor(size={"height": 16, "width": 16}).save_pretrained(source)
    (here / "photos").mkdir()
    values = np.random.default_rng(0).integers(0, 255, (20, 16, 16, 3), dtype=np.uint8)
    for number, value in enumerate(values):
        images.fromarray(value).save(here / f"photos/{number}.png")
    return source


def test_pictures_tell_what_is_not_measured(pictures, capsys):
    """They have no labels; and then none of them is held out."""
    words = ["prune", f"hf:{pictures}", "--params", 0.8, "--criterion", "wanda", "--data", "photos"]
    line = "the loss before and after is not measured: pictures and tensors come without labels"
    assert run(capsys, *words).splitlines().count(line) == 1
    assert line in json.loads(run(capsys, *words, "--json"))["notes"]


@pytest.mark.parametrize(
    ("text", "kind", "why"),
    [
        ("w1 w2 w3", "LlamaForCausalLM", "of a single text no part is held out"),
        (TEXT, "LlamaModel", "its forward takes no labels"),
        (TEXT, "LlamaForSequenceClassification", "labels"),
    ],
)
def test_texts_without_a_loss_tell_why(text, kind, why, source, here, tmp_path_factory, capsys):
    folder = tmp_path_factory.mktemp("other")
    getattr(transformers, kind).from_pretrained(source, pad_token_id=0).save_pretrained(folder)
    tokenizer(eos_token="<end>").save_pretrained(folder)
    (here / "texts.txt").write_text(text)
    said = run(capsys, "prune", f"hf:{folder}", "--params", 0.8, "--data", "texts.txt")
    (line,) = [line for line in said.splitlines() if "is not measured" in line]
    assert why in line


def test_weights_decide_what_goes(here, capsys, monkeypatch):
    monkeypatch.syspath_prepend(here)
    from own_nets import Net

    torch.manual_seed(7)  # models without weights have those of seed 0
    net = Net()
    torch.save({"state_dict": net.state_dict()}, "net.pt")
    options = ["prune", "own_nets:Net", "--input", "1x3x8x8", "--json"]
    with_weights = json.loads(run(capsys, *options, "--weights", "net.pt"))["plan"]
    assert with_weights != json.loads(run(capsys, *options))["plan"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["hf:nowhere"], "cannot load nowhere"),
        (["own_nets:Net", "--input", "1x3x8x8", "--data", "texts.txt"], "texts need the tokenizer"),
        (["own_nets:Net", "--data", "gone.txt"], "cannot read gone.txt as data"),
        (["own_nets:Net", "--weights", "texts.txt"], "holds no weights that are safe to load"),
        (["own_nets:Net", "-o", "half", "--dry-run"], "--dry-run slices nothing"),
        (["own_nets:Net", "-o", "texts.txt"], "texts.txt is there"),
        (["own_nets:Net", "--device", "moon"], "moving the model failed"),
    ],
)
def test_what_is_wrong_is_one_line(words, said, capsys):
    assert main(["prune", *words]) == 2
    assert said in capsys.readouterr().err


def test_a_pickle_is_not_run(here, capsys):
    class Bomb:
        def __reduce__(self):
            return (open, (str(here / "boom"), "w"))

    torch.save(Bomb(), "bomb.pt")
    assert main(["prune", "own_nets:Net", "--weights", "bomb.pt"]) == 2
    assert not (here / "boom").exists()


def test_a_checkpoint_is_streamed(source, capsys):
    words = ["prune", f"hf:{source}", "--params", 0.8, "--plan", "plan.json"]
    said = run(capsys, *words, "-o", "whole")
    streamed = run(capsys, *words, "--stream", "--shard-size", "5GB", "-o", "half")
    assert "wrote half, plain" in streamed
    assert streamed.replace("half", "whole").splitlines()[1:4] == said.splitlines()[1:4]
    for file in ("model.safetensors", "config.json", "tokenizer.json", "plan.json"):
        assert open(f"half/{file}", "rb").read() == open(f"whole/{file}", "rb").read(), file  # noqa: SIM115
    found = json.loads(run(capsys, *words, "--stream", "-o", "half", "--json"))
    assert found["folder"].startswith("plain")
    assert found["parameters"]["after"] < found["parameters"]["before"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--stream"], "--stream writes a folder"),
        (["--stream", "-o", "half.safetensors"], "--stream writes a folder"),
        (["--stream", "-o", "half", "--data", "texts.txt"], "--data needs a model in memory"),
        (["--stream", "-o", "half", "--no-sequential"], "--sequential needs a model in memory"),
        (["--stream", "-o", "half", "--dtype", "float16"], "--dtype needs a model in memory"),
        (["--stream", "-o", "half", "--criterion", "wanda"], "'wanda' needs data"),
        (["--shard-size", "1MB"], "--shard-size goes with --stream"),
    ],
)
def test_what_cannot_be_streamed_is_told(words, told, source, capsys):
    assert main(["prune", f"hf:{source}", *words]) == 2
    assert told in capsys.readouterr().err
    assert main(["prune", "timm:resnet18", "--stream", "-o", "half"]) == 2
    assert "hf:FOLDER" in capsys.readouterr().err
