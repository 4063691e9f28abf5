"""Checkpoints that our program exports, run by transformers and by the program, token by token."""

import pytest
import torch
from transformers import AutoTokenizer

import converted
from conftest import NANO
from converted import export
from sparse_reference import random_index
from test_engine import FAMILIES, SETTINGS, TOLERANCE, decode, load, random_base, random_ids, with_rule


def check(out, ids, prompt, scratch):
    """The same logits, and the same far tokens in every row and head."""
    model = load(out, dtype=torch.float32)
    model.record_picked_tokens()
    theirs = decode(model, ids, prompt)
    ours, picked = converted.decode(out, ids, prompt, scratch)
    assert (ours - theirs).abs().max() <= TOLERANCE * theirs.abs().max()
    rows = {(row.layer, row.head, row.position): set(row.tokens.tolist()) for row in model.retrosparse_stats()}
    assert len(rows) > 0 and len(picked) > 0
    assert picked == {row: tokens for row, tokens in rows.items() if tokens}


@pytest.mark.parametrize("family", FAMILIES)
def test_random_model(family, tmp_path):
    base = random_base(family)
    base.save_pretrained(tmp_path / "dense")
    index = random_index(SETTINGS, base.config.num_key_value_heads, base.config.num_attention_heads, 16)
    check(export(tmp_path / "dense", tmp_path, SETTINGS, index), random_ids(120), 70, tmp_path)


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
    out = export(NANO, tmp_path, settings, random_index(settings, 2, 4, 64))
    check(out, ids, 700, tmp_path)
    assert AutoTokenizer.from_pretrained(out, trust_remote_code=True)(text)["input_ids"][-800:] == ids
