"""Converted checkpoints and adapters on the command line: generate and inspect."""

import json
import os

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer

from cli_checks import PROMPT, USAGE, edit_json, fails
from conftest import NANO, ROOT
from converted import export, index_from_rope
from test_engine import TOLERANCE, decode, load

NEEDLE = ROOT / "examples/prompts/needle.txt"
ANSWER = "7294018"  # 1,700 tokens before its question
GATE = dict(p=0.9, min_tokens=64, max_tokens=256)
SETTINGS = dict(version=1, sink_tokens=4, window=256, index_dim=16, selection="top_p",
                retrieval_heads={"4": [0], "5": [0, 1, 2, 3]}, gates={"4": [GATE], "5": [GATE] * 4},
                prefill=dict(mode="dense", tile_share=0.02))
GATE_BIAS = "model.layers.5.self_attn.indexer.gate.bias"


@pytest.fixture
def out(tmp_path):
    """nano, converted without training: out/model and out/adapter."""
    export(NANO, tmp_path, SETTINGS, index_from_rope(SETTINGS, 2, 4, 64))
    return tmp_path


def generate(retrosparse, *arguments):
    return json.loads(retrosparse("generate", "--prompt-file", NEEDLE, "--max-new-tokens", 8, "--ignore-eos", "--json",
                                  *arguments).stdout)


@torch.no_grad()
def test_generate_decodes_sparsely(retrosparse, out):
    ours = generate(retrosparse, "--model", out / "model")
    assert ANSWER in ours["text"]
    far = ours["far_tokens_per_head"]
    assert 64 <= far["picked"] <= 256 < far["available"]
    ids = AutoTokenizer.from_pretrained(NANO)(NEEDLE.read_text(), return_tensors="pt")["input_ids"]
    theirs = load(out / "model", dtype=torch.float32).generate(ids, max_new_tokens=8, do_sample=False, eos_token_id=None)
    assert ours["ids"] == theirs[0, ids.shape[1]:].tolist()
    again = generate(retrosparse, "--model", out / "model", "--prefill-chunk", 300)
    assert again["ids"] == ours["ids"] and again["far_tokens_per_head"] == far


@torch.no_grad()
def test_rows_of_the_prompt_that_are_decoded(retrosparse, out, tmp_path):
    """Their logits are those of decoding in transformers, and differ from those of the prefill."""
    ids = AutoTokenizer.from_pretrained(NANO)(NEEDLE.read_text())["input_ids"]
    first, logits = len(ids) - 6, {}
    for name, options in dict(decoded=["--decode-from", first], prefilled=[]).items():
        file = tmp_path / f"{name}.safetensors"
        generate(retrosparse, "--model", out / "model", "--logits", file, *options)
        logits[name] = load_file(file)["logits"]
    theirs = decode(load(out / "model", dtype=torch.float32), ids, first)
    limit = TOLERANCE * theirs.abs().max()
    assert (logits["decoded"] - theirs).abs().max() <= limit
    assert (logits["decoded"] - logits["prefilled"])[:first].abs().max() <= limit
    assert (logits["decoded"] - logits["prefilled"])[first:].abs().max() > 10 * limit
    fails(retrosparse, "generate", "--model", out / "model", "--prompt", PROMPT, "--decode-from", 999,
          says=["--decode-from", "999"])


def test_generate_by_an_adapter(retrosparse, out):
    ours = generate(retrosparse, "--model", NANO, "--adapter", out / "adapter")
    expected = generate(retrosparse, "--model", out / "model")
    assert ours["ids"] == expected["ids"] and ours["far_tokens_per_head"] == expected["far_tokens_per_head"]


def test_generate_dense_or_as_planned(retrosparse, out):
    dense = generate(retrosparse, "--model", out / "model", "--attention", "dense")
    assert dense["ids"] == generate(retrosparse, "--model", NANO)["ids"] and "far_tokens_per_head" not in dense
    planned = generate(retrosparse, "--model", out / "model", "--attention", "plan")
    heads = "4.0,5.0,5.1,5.2,5.3"
    assert planned["ids"] == generate(retrosparse, "--model", NANO, "--window", 256, "--dense-heads", heads)["ids"]


def test_generate_says_how_much_it_picked(retrosparse, out):
    command = ["generate", "--prompt-file", NEEDLE, "--max-new-tokens", 4, "--ignore-eos", "--model", out / "model"]
    assert "far tokens per row and retrieval head" in retrosparse(*command).stderr
    near = ["generate", "--prompt", PROMPT, "--max-new-tokens", 4, "--model", out / "model"]
    assert "far tokens" not in retrosparse(*near).stderr  # all within the window


def test_generate_refuses_what_does_not_fit(retrosparse, out):
    prompt = ["--prompt", PROMPT, "--model"]
    fails(retrosparse, "generate", *prompt, NANO, "--attention", "sparse", says=[str(NANO), "not a converted model"])
    fails(retrosparse, "generate", *prompt, out / "model", "--window", 9, code=USAGE, says="head plan of its own")
    fails(retrosparse, "generate", *prompt, NANO, "--adapter", NANO, says="retrosparse.json")
    other = export(NANO, out / "other", SETTINGS, index_from_rope(SETTINGS, 2, 4, 64))
    fails(retrosparse, "generate", *prompt, other, "--adapter", out / "adapter", says="another checkpoint")


def test_inspect_shows_head_plan_and_gates(retrosparse, out):
    shown = json.loads(retrosparse("inspect", out / "model", "--json").stdout)
    assert shown["retrosparse"] == SETTINGS
    assert shown["weights"]["missing"] == shown["weights"]["surplus"] == shown["weights"]["wrong"] == []
    text = retrosparse("inspect", out / "model").stdout
    for line in ("RetroSparseLlamaForCausalLM", "5 of 24, in 2 of 6 layers", "first 4 tokens and the latest 256",
                 "top_p", "0 1 2 3", "none: far tokens that are not picked do not count"):
        assert line in text
    assert json.loads(retrosparse("inspect", out / "model" / "config.json", "--json").stdout)["retrosparse"] == SETTINGS
    assert "retrosparse" not in json.loads(retrosparse("inspect", NANO, "--json").stdout)


def test_inspect_shows_the_tail(retrosparse, out):
    edit_json(out / "model" / "config.json", retrosparse={**SETTINGS, "tail_block": 64})
    assert json.loads(retrosparse("inspect", out / "model", "--json").stdout)["retrosparse"]["tail_block"] == 64
    assert "tail_block 64" in retrosparse("inspect", out / "model").stdout


def test_the_page_names_all_keys_and_tensors(out):
    page = (ROOT / "docs" / "checkpoint.md").read_text()
    settings = {**SETTINGS, "tail_block": 64}
    names = [*settings, *settings["prefill"], *GATE, *os.listdir(out / "adapter")]
    names += [key for key in json.loads((out / "adapter" / "retrosparse.json").read_text())]
    tensors = load_file(out / "adapter" / "adapter.safetensors")
    names += {name.partition(".indexer.")[2] for name in tensors}
    assert {name.partition("5.")[0] for name in tensors if ".5." in name} == {"model.layers."}
    assert [name for name in names if name not in page] == [] and "model.layers.{l}.self_attn.indexer." in page


@pytest.mark.parametrize("change, says", [
    (lambda tensors: tensors.pop(GATE_BIAS), "missing"),
    (lambda tensors: tensors.update({GATE_BIAS: torch.zeros(3)}), "[4]"),
    (lambda tensors: tensors.update({GATE_BIAS: torch.zeros(4, dtype=torch.int32)}), "floating-point"),
])
def test_an_index_that_does_not_fit(retrosparse, out, change, says):
    path = out / "model" / "model.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)
    fails(retrosparse, "generate", "--model", out / "model", "--prompt", PROMPT, says=[GATE_BIAS, says])
    shown = retrosparse("inspect", out / "model", check=False)
    assert shown.returncode == 1 and GATE_BIAS in shown.stderr and says in shown.stderr


@pytest.mark.parametrize("change, says", [
    (dict(window=0), "window"),
    (dict(retrieval_heads={"5": [4]}), "retrieval_heads.5"),
    (dict(gates={"5": [GATE]}), "gates"),
    (dict(selection="top_q"), "did you mean 'top_p'"),
    (dict(sink_token=4), "sink_token"),
])
def test_settings_that_do_not_fit(retrosparse, out, change, says):
    edit_json(out / "model" / "config.json", retrosparse={**SETTINGS, **change})
    for command in (["inspect"], ["generate", "--prompt", PROMPT, "--model"]):
        fails(retrosparse, *command, out / "model", says=["config.json", says])


def test_a_converted_model_without_settings(retrosparse, out):
    edit_json(out / "model" / "config.json", retrosparse=...)
    for command in (["inspect"], ["generate", "--prompt", PROMPT, "--model"]):
        fails(retrosparse, *command, out / "model", says=["config.json", "retrosparse"])
