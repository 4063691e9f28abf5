"""engines/transformers: what it does not run, and checkpoints that are broken, it refuses."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM, DynamicCache, StaticCache
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer, StaticLayer

from test_engine import load, make_checkpoint, random_ids


def test_an_engine_that_knows_nothing_of_it_refuses(tmp_path):
    make_checkpoint(tmp_path, "qwen3")
    for auto in (AutoConfig, AutoModelForCausalLM):
        with pytest.raises(ValueError, match="trust_remote_code"):
            auto.from_pretrained(tmp_path, trust_remote_code=False)
    config = json.loads((tmp_path / "config.json").read_text())
    del config["auto_map"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    for auto in (AutoConfig, AutoModelForCausalLM):
        with pytest.raises(ValueError, match="retrosparse_qwen3"):
            auto.from_pretrained(tmp_path)


@torch.no_grad()
def test_what_it_does_not_run_it_refuses(tmp_path):
    make_checkpoint(tmp_path, "llama")
    model, ids = load(tmp_path), torch.tensor([random_ids(20), random_ids(20)])
    with pytest.raises(ValueError, match="padding on the left only"):
        model(ids, attention_mask=torch.tensor([[1] * 20, [1] * 15 + [0] * 5]))
    with pytest.raises(ValueError, match=r"found \[2, 1, 20, 20\]"):
        model(ids, attention_mask=torch.ones(2, 1, 20, 20))
    with pytest.raises(NotImplementedError, match="StaticLayer"):
        model(ids, past_key_values=StaticCache(config=model.config, max_cache_len=64))
    with pytest.raises(ValueError, match="found -1"):
        model.set_sparse_rows(-1)


@torch.no_grad()
@pytest.mark.parametrize("kind, says", [
    (lambda: DynamicSlidingWindowLayer(sliding_window=8), r"layer 1 of this DynamicCache .* 8 tokens, not of 21"),
    (lambda: StaticLayer(max_cache_len=64), r"layer 1 of this DynamicCache .* 64 tokens, not of 20"),
])
def test_a_cache_that_returns_another_length(kind, says, tmp_path):
    """In a layer without retrieval heads, which takes whatever cache it is given."""
    make_checkpoint(tmp_path, "llama")
    model, ids, cache = load(tmp_path), torch.tensor([random_ids(21)]), DynamicCache()
    cache.layers = [DynamicLayer(), kind(), DynamicLayer()]
    with pytest.raises(NotImplementedError, match=says):
        model(ids[:, :20], past_key_values=cache)
        model(ids[:, 20:], past_key_values=cache)  # a sliding window forgets between two calls


@pytest.mark.parametrize("change, message", [
    (lambda s: s.pop("window"), "'retrosparse.window': expected a whole number of at least 1, found None"),
    (lambda s: s.update(window=0), "'retrosparse.window': expected a whole number of at least 1, found 0"),
    (lambda s: s.update(version=2), "'retrosparse.version': expected 1"),
    (lambda s: s.update(selection="top-p"), "'retrosparse.selection': expected one of top_p, top_k, paper"),
    (lambda s: s["retrieval_heads"].update({"0": [2, 1]}), "'retrosparse.retrieval_heads.0': expected heads in asc"),
    (lambda s: s["retrieval_heads"].update({"0": [1, 6]}), "retrieval_heads.0': expected heads from 0 to 5"),
    (lambda s: s["retrieval_heads"].update({"3": [1]}), "'retrosparse.retrieval_heads.3': expected layers below 3"),
    (lambda s: s["gates"].pop("2"), "'retrosparse.gates': expected one gate per retrieval head"),
    (lambda s: s["gates"]["0"][1].update(p=0), r"'retrosparse.gates.0\[1\].p': expected a number above 0"),
    (lambda s: s["gates"]["0"][1].update(max_tokens=-1), r"'retrosparse.gates.0\[1\].max_tokens': expected"),
    (lambda s: s["prefill"].update(mode="sparse"), "'retrosparse.prefill.mode': expected one of dense, tiles"),
    (lambda s: s.update(tail_block=-1), r"'retrosparse.tail_block': expected a whole number from 0 .* 24, found -1"),
    (lambda s: s.update(tail_block=25), r"'retrosparse.tail_block': expected a whole number from 0 .* 24, found 25"),
    (lambda s: s.update(tail_block=4.0), r"'retrosparse.tail_block': expected a whole number from 0 .* found 4.0"),
    (lambda s: s.update(tail_block="4"), r"'retrosparse.tail_block': expected a whole number from 0 .* found '4'"),
    (lambda s: s.update(tail_block=True), r"'retrosparse.tail_block': expected a whole number from 0 .* found True"),
    (lambda s: s.update(tail_block=None), r"'retrosparse.tail_block': expected a whole number from 0 .* found None"),
    (lambda s: s.update(tail_block=4, selection="paper"), "'retrosparse.tail_block': expected no tail beside"),
])
def test_broken_settings(change, message, tmp_path):
    make_checkpoint(tmp_path, "llama")
    config = json.loads((tmp_path / "config.json").read_text())
    change(config["retrosparse"])
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=message):
        load(tmp_path)


def test_sliding_window_of_the_models_own(tmp_path):
    make_checkpoint(tmp_path, "mistral")
    config = json.loads((tmp_path / "config.json").read_text())
    config["sliding_window"] = 128
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="'sliding_window': expected no sliding window"):
        load(tmp_path)


@pytest.mark.parametrize("edit", ["missing", "left over"])
def test_index_tensors_that_do_not_fit(edit, tmp_path):
    make_checkpoint(tmp_path, "llama")
    tensors = load_file(tmp_path / "model.safetensors")
    if edit == "missing":
        del tensors["model.layers.2.self_attn.indexer.gate.bias"]
    else:
        tensors["model.layers.1.self_attn.indexer.gate.bias"] = torch.zeros(1)
    save_file(tensors, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match="index tensors do not fit"):
        load(tmp_path)
