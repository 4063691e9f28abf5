"""What users get wrong when they convert: one clear line, exit code 1, and nothing that existed is lost."""

import shutil
import subprocess

import pytest
import torch
from safetensors.torch import load_file, save_file

from conftest import NANO
from test_convert import ENVIRONMENT, command, convert


def refused(process, *says):
    assert process.returncode == 1, process.stderr
    last = process.stderr.splitlines()[-1]
    assert last.startswith("retrosparse: error:")
    for words in says:
        assert words in last


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def profiled(tmp_path_factory):
    out = tmp_path_factory.mktemp("profiled") / "out"
    convert(out, subcommand="profile")
    return out


@pytest.mark.parametrize("setting, says", [
    ("plan.window=0", ["plan.window", "expected 1 to", "found 0"]),
    ("plan.ratio=2", ["plan.ratio", "2"]),
    ("plan.window=many", ["plan.window", "many"]),
    ("selection={rule: top_p, min_tokens: 64, max_tokens: 16}", ["min_tokens", "max_tokens"]),
    ("index.index_dim=15", ["index_dim", "even", "15"]),
    ("context_length=100", ["fit"]),
])
def test_impossible_settings(tmp_path, setting, says):
    refused(convert(tmp_path / "out", setting, code=1), *says)


@pytest.mark.parametrize("content, says", [
    (b"", ["text.txt", "empty"]),
    (b"Too short. \0 And this too. \0 And a third.", ["expected at least 768 tokens"]),
    (b"A book with a broken character: \xff\xfe. " * 2000, ["text.txt", "UTF-8"]),
])
def test_unusable_text(tmp_path, content, says):
    text = tmp_path / "text.txt"
    text.write_bytes(content)
    process = subprocess.run([*command(tmp_path / "out"), "--text", str(text)], capture_output=True, text=True,
                             env=ENVIRONMENT)
    refused(process, *says)


def test_a_folder_of_another_model(profiled, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(NANO, other)
    weights = load_file(other / "model.safetensors")
    weights["model.norm.weight"] = weights["model.norm.weight"] * 2
    save_file(weights, other / "model.safetensors", {"format": "pt"})
    before = contents(profiled)
    arguments = command(profiled)
    arguments[arguments.index("--model") + 1] = str(other)
    process = subprocess.run(arguments, capture_output=True, text=True, env=ENVIRONMENT)
    refused(process, str(profiled), "another model")
    assert contents(profiled) == before


def test_a_folder_below_a_file(tmp_path):
    (tmp_path / "file").write_text("precious")
    refused(convert(tmp_path / "file" / "out", code=1), str(tmp_path / "file"))
    assert (tmp_path / "file").read_text() == "precious"


def test_a_corrupt_stage_file_is_made_anew(profiled, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(profiled, out)
    (out / "profile" / "head_plan.json").write_text("{\"retrieval_heads\": ")
    refused(convert(out, subcommand="train", code=1), "head_plan.json", "not what profile wrote")
    assert "its files changed" in convert(out, subcommand="profile").stderr
    assert contents(out / "profile") == contents(profiled / "profile")


def test_weights_that_are_not_finite(tmp_path):
    model, out = tmp_path / "model", tmp_path / "out"
    shutil.copytree(NANO, model)
    weights = load_file(model / "model.safetensors")
    weights["model.layers.3.mlp.down_proj.weight"] = weights["model.layers.3.mlp.down_proj.weight"] * torch.inf
    save_file(weights, model / "model.safetensors", {"format": "pt"})
    arguments = command(out)
    arguments[arguments.index("--model") + 1] = str(model)
    process = subprocess.run(arguments, capture_output=True, text=True, env=ENVIRONMENT)
    refused(process, "layer 4", "not finite")
    assert not (out / "profile" / "head_plan.json").exists()

