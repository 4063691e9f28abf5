"""Converted models for the tests: exported by our program, with an index that was not trained."""

import json
import subprocess

import torch
from safetensors.torch import load_file, save_file

from conftest import BUILD, write_ids

WORKER = BUILD / "tests" / "export" / "export_worker"


def export(model_dir, out, settings, index):
    """Writes out/model and out/adapter."""
    out.mkdir(parents=True, exist_ok=True)
    (out / "settings.json").write_text(json.dumps(settings))
    save_file(index, out / "index.safetensors")
    subprocess.run([WORKER, "export", model_dir, out, out / "settings.json", out / "index.safetensors"], check=True)
    return out / "model"


def decode(folder, ids, prompt, scratch):
    """What C++ computes: logits [T, vocab], and what it picks, as {(layer, head, position): tokens}; rows without picks
    are left out."""
    result = scratch / "decoded.safetensors"
    subprocess.run([WORKER, "decode", folder, write_ids(scratch / "ids.json", ids), str(prompt), result], check=True)
    tensors = load_file(result)
    picked = {}
    for layer, head, position, token in tensors["picked"].tolist():
        picked.setdefault((layer, head, position), set()).add(token)
    return tensors["logits"], picked


def index_from_rope(settings, num_key_value_heads, num_attention_heads, head_dim):
    """The index before training: both projections pick the dimensions of the slowest rotary pairs."""
    pairs, half = settings["index_dim"] // 2, head_dim // 2
    pick = torch.eye(head_dim)[[*range(half - pairs, half), *range(head_dim - pairs, head_dim)]] * head_dim**-0.25
    tensors = {}
    for layer, heads in settings["retrieval_heads"].items():
        name = f"model.layers.{layer}.self_attn.indexer."
        groups = {head * num_key_value_heads // num_attention_heads for head in heads}
        tensors[name + "q_proj.weight"] = pick.repeat(len(heads), 1, 1)
        tensors[name + "k_proj.weight"] = pick.repeat(len(groups), 1, 1)
        tensors[name + "gate.weight"] = torch.zeros(len(heads), head_dim)
        tensors[name + "gate.bias"] = torch.zeros(len(heads))
    return tensors
