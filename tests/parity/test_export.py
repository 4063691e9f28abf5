"""Checkpoints that our program exports, run by transformers and by the program, token by token."""

import json
import subprocess

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer

from conftest import BUILD, NANO, write_ids
from sparse_reference import random_index
from test_engine import FAMILIES, SETTINGS, TOLERANCE, decode, load, random_base, random_ids, with_rule

WORKER = BUILD / "tests" / "export" / "export_worker"


def export(model_dir, out, settings, index, ids, prompt, tmp_path):
    """Exports with C++, and returns what C++ computes from the exported folder."""
    (tmp_path / "settings.json").write_text(json.dumps(settings))
    save_file(index, tmp_path / "index.safetensors")
    subprocess.run([WORKER, model_dir, out, tmp_path / "settings.json", tmp_path / "index.safetensors",
                    write_ids(tmp_path / "ids.json", ids), str(prompt), tmp_path / "logits.safetensors"], check=True)
    return load_file(tmp_path / "logits.safetensors")["logits"]


def check(out, ids, prompt, ours):
    theirs = decode(load(out, dtype=torch.float32), ids, prompt)
    assert (ours - theirs).abs().max() <= TOLERANCE * theirs.abs().max()


@pytest.mark.parametrize("family", FAMILIES)
def test_random_model(family, tmp_path):
    base = random_base(family)
    base.save_pretrained(tmp_path / "model")
    index = random_index(SETTINGS, base.config.num_key_value_heads, base.config.num_attention_heads, 16)
    ids = random_ids(120)
    ours = export(tmp_path / "model", tmp_path / "out", SETTINGS, index, ids, 70, tmp_path)
    check(tmp_path / "out", ids, 70, ours)


@pytest.mark.parametrize("selection", ["top_p", "top_k", "paper"])
def test_nano(selection, tmp_path):
    """The trained model, with every head of its last layer a retrieval head and the index that it starts from."""
    settings = with_rule(selection, window=64, index_dim=16, retrieval_heads={"1": [0], "5": [0, 1, 2, 3]},
                         gates={"1": [dict(p=0.9, min_tokens=8, max_tokens=64)],
                                "5": [dict(p=0.9, min_tokens=8, max_tokens=64)] * 4})
    if selection == "top_k":
        settings["gates"]["5"] = [dict(p=0.9, min_tokens=64, max_tokens=64)] * 4
    text = (NANO.parent / "prompts" / "needle.txt").read_text()
    ids = AutoTokenizer.from_pretrained(NANO)(text)["input_ids"][-800:]
    ours = export(NANO, tmp_path / "out", settings, random_index(settings, 2, 4, 64), ids, 700, tmp_path)
    check(tmp_path / "out", ids, 700, ours)
    assert AutoTokenizer.from_pretrained(tmp_path / "out", trust_remote_code=True)(text)["input_ids"][-800:] == ids
