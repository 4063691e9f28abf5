"""Broken checkpoints through the command line: one clear line, exit code 1, and nothing is lost."""

import json
import os
import struct

import pytest
import torch
from safetensors.torch import load_file, save_file

from cli_checks import break_truncated, ERROR, PROMPT, edit_json, fails, generate_fails, header_of, model, write_raw  # noqa: F401 (a fixture)
from conftest import NANO


def test_missing_folder(retrosparse, tmp_path):
    for command in (["inspect"], ["plan"], ["tokenize", "a", "--model"], ["generate", "--prompt", "a", "--model"]):
        fails(retrosparse, *command, tmp_path / "absent", says=str(tmp_path / "absent"))


def break_empty(path):
    path.write_bytes(b"")


def break_oversized(path):
    path.write_bytes(path.read_bytes() + b"\0" * 8)


def break_header_length(path):
    path.write_bytes(struct.pack("<Q", 1 << 40) + path.read_bytes()[8:])


def break_header_json(path):
    data = bytearray(path.read_bytes())
    data[8:40] = b"x" * 32
    path.write_bytes(data)


def break_overlap(path):
    header, data = header_of(path)
    names = [name for name in header if name != "__metadata__"]
    same_size = {}
    for name in names:
        same_size.setdefault(str(header[name]["shape"]), []).append(name)
    first, second = next(names for names in same_size.values() if len(names) > 1)[:2]
    header[first]["data_offsets"] = header[second]["data_offsets"]
    write_raw(path, header, data)


@pytest.mark.parametrize("damage", [break_truncated, break_empty, break_oversized, break_header_length,
                                    break_header_json, break_overlap])
def test_broken_safetensors(retrosparse, model, damage):
    path = model / "model.safetensors"
    damage(path)
    before = path.read_bytes()
    fails(retrosparse, "inspect", model, says="model.safetensors")
    generate_fails(retrosparse, model, says="model.safetensors")
    assert path.read_bytes() == before


def broken_tensors(model, change):
    tensors = load_file(model / "model.safetensors")
    change(tensors)
    save_file(tensors, model / "model.safetensors")


@pytest.mark.parametrize("change, says", [
    (lambda tensors: tensors.update({NORM: torch.zeros(255, dtype=torch.bfloat16)}), ["[256]", "[255]"]),
    (lambda tensors: tensors.update({NORM: torch.zeros(256, dtype=torch.int8)}), ["I8", "float32"]),
    (lambda tensors: tensors.pop(NORM), ["missing"]),
])
def test_wrong_tensors(retrosparse, model, change, says):
    broken_tensors(model, change)
    generate_fails(retrosparse, model, says=[NORM, *says])
    shown = retrosparse("inspect", model, "--json", check=False)  # shows the rest, but fails all the same
    assert shown.returncode == ERROR and NORM in shown.stderr and len(shown.stderr.splitlines()) == 1
    weights = json.loads(shown.stdout)["weights"]
    assert [NORM] == weights["missing"] or NORM in weights["wrong"][0]


NORM = "model.layers.3.input_layernorm.weight"


def test_surplus_tensors_are_a_warning(retrosparse, model):
    broken_tensors(model, lambda tensors: tensors.update({"extra.weight": torch.zeros(3)}))
    process = retrosparse("generate", "--model", model, "--prompt", PROMPT, "--max-new-tokens", 1)
    assert "extra.weight" in process.stderr
    assert json.loads(retrosparse("inspect", model, "--json").stdout)["weights"]["surplus"] == ["extra.weight"]


def shard(model, keep_second=True):
    """nano in two files; returns the index."""
    tensors = load_file(model / "model.safetensors")
    names = sorted(tensors)
    parts = {"model-00001-of-00002.safetensors": names[:20], "model-00002-of-00002.safetensors": names[20:]}
    for file, part in parts.items():
        save_file({name: tensors[name] for name in part}, model / file)
    (model / "model.safetensors").unlink()
    index = {"metadata": {}, "weight_map": {name: file for file, part in parts.items() for name in part}}
    (model / "model.safetensors.index.json").write_text(json.dumps(index))
    return index


def test_sharded_checkpoint(retrosparse, model):
    shard(model)
    command = ["generate", "--prompt", PROMPT, "--max-new-tokens", "4", "--model"]
    assert retrosparse(*command, model).stdout == retrosparse(*command, NANO).stdout
    assert len(json.loads(retrosparse("inspect", model, "--json").stdout)["weights"]["files"]) == 2


def test_index_that_points_nowhere(retrosparse, model):
    shard(model)
    (model / "model-00002-of-00002.safetensors").unlink()
    generate_fails(retrosparse, model, says="model-00002-of-00002.safetensors")


def test_index_with_missing_and_surplus_tensors(retrosparse, model):
    index = shard(model)
    index["weight_map"]["model.absent"] = "model-00001-of-00002.safetensors"
    (model / "model.safetensors.index.json").write_text(json.dumps(index))
    generate_fails(retrosparse, model, says="model.absent")
    del index["weight_map"]["model.absent"]
    del index["weight_map"][NORM]
    (model / "model.safetensors.index.json").write_text(json.dumps(index))
    generate_fails(retrosparse, model, says=NORM)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"weight_map": 3}', '{"weight_map": {"a": "../b.safetensors"}}'])
def test_broken_index(retrosparse, model, text):
    shard(model)
    (model / "model.safetensors.index.json").write_text(text)
    fails(retrosparse, "inspect", model, says="model.safetensors.index.json")


@pytest.mark.parametrize("changes, says", [
    ({"hidden_size": ...}, "hidden_size"),
    ({"hidden_size": "256"}, "hidden_size"),
    ({"hidden_size": -256}, "hidden_size"),
    ({"num_hidden_layers": 10**12}, "num_hidden_layers"),
    ({"num_key_value_heads": 3}, "num_key_value_heads"),
    ({"vocab_size": 0}, "vocab_size"),
    ({"rms_norm_eps": 0}, "rms_norm_eps"),
    ({"architectures": ["GemmaForCausalLM"]}, "GemmaForCausalLM"),
    ({"model_type": "mistral"}, "contradicts 'architectures', LlamaForCausalLM: expected llama, found mistral"),
    ({"architectures": ..., "model_type": "gemma"}, "'model_type': unsupported architecture"),
    ({"architectures": None, "model_type": "gemma"}, "found gemma"),
    ({"architectures": ["Qwen3Model"], "tie_word_embeddings": False}, "no output head"),
    ({"architectures": ["GemmaModel"]}, "GemmaModel"),
    ({"layer_types": ["full_attention"]}, "layer_types"),
    ({"rope_parameters": {"full_attention": {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4}}},
     "rope_parameters.full_attention"),
    ({"rms_norm_eps": -1}, "out of range"),
    ({"rms_norm_eps": 1e10}, "'rms_norm_eps': out of range: expected a number above 0, at most 1, found 10000000000.0"),
    ({"rms_norm_eps": float("nan")}, "not valid json"),
    ({"rope_theta": -1e4}, "'rope_theta': out of range: expected a number above 1, at most 1e+15, found -10000.0"),
    ({"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0, "attention_factor": -1.0}},
     "'rope_parameters.attention_factor': out of range: expected a number above 0, at most 1e+06, found -1.0"),
    ({"eos_token_id": [0, 1 << 40]}, "'eos_token_id': out of range: expected whole numbers from -1 to"),
    ({"hidden_act": "sillu"}, "'hidden_act': unsupported activation: expected silu, found sillu"),
    ({"quantization_config": {"quant_method": "fp8"}}, "fp8"),
    ({"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}}, "dynamic"),
    ({"hidden_act": "gelu"}, "gelu"),
])
def test_broken_config(retrosparse, model, changes, says):
    edit_json(model / "config.json", **changes)
    for command in (["inspect"], ["plan"], ["generate", "--prompt", "a", "--model"]):
        fails(retrosparse, *command, model, says=["config.json", says])


def test_an_unknown_dtype_is_one_warning(retrosparse, model):
    """generate reads config.json twice."""
    edit_json(model / "config.json", dtype=..., torch_dtype="int7")
    for command in (["inspect"], ["plan"], ["generate", "--prompt", "a", "--max-new-tokens", "1", "--model"]):
        assert retrosparse(*command, model).stderr.count("int7 is not one that models run in") == 1


def test_a_window_of_the_models_own_is_refused(retrosparse, model):
    edit_json(model / "config.json", architectures=["MistralForCausalLM"], model_type="mistral",
              sliding_window=4096)
    fails(retrosparse, "inspect", model, says=["sliding_window", "4096"])


@pytest.mark.parametrize("text", ["", "{", '{"model": {"type": "BPE"'])
def test_config_that_is_not_json(retrosparse, model, text):
    (model / "config.json").write_text(text)
    fails(retrosparse, "inspect", model, says="config.json")


@pytest.mark.parametrize("change, says", [
    (lambda tokenizer: tokenizer["model"].update(type="Unigram"), "Unigram"),
    (lambda tokenizer: tokenizer["model"].pop("merges"), "merges"),
    (lambda tokenizer: tokenizer["model"]["merges"].append("zz zz qq"), "merges"),
    (lambda tokenizer: tokenizer.pop("model"), "key 'model': missing"),
])
def test_broken_tokenizer(retrosparse, model, change, says):
    tokenizer = json.loads((model / "tokenizer.json").read_text())
    change(tokenizer)
    (model / "tokenizer.json").write_text(json.dumps(tokenizer))
    fails(retrosparse, "tokenize", "--model", model, "a", says=["tokenizer.json", says])
    generate_fails(retrosparse, model, says=["tokenizer.json", says])
    assert says in retrosparse("inspect", model).stdout  # says why, and shows the rest


def test_tokenizer_that_is_missing_or_cut(retrosparse, model):
    text = (model / "tokenizer.json").read_text()
    (model / "tokenizer.json").write_text(text[:len(text) // 2])
    generate_fails(retrosparse, model, says="tokenizer.json")
    (model / "tokenizer.json").unlink()
    generate_fails(retrosparse, model, says="tokenizer.json")


def test_added_tokens_with_ids_of_their_own_are_a_warning(retrosparse, model):
    tokenizer = json.loads((model / "tokenizer.json").read_text())
    tokenizer["added_tokens"].append({**tokenizer["added_tokens"][0], "content": "<x>", "id": 70000})
    (model / "tokenizer.json").write_text(json.dumps(tokenizer))
    process = retrosparse("tokenize", "--model", model, "<x>")
    assert process.stdout == "4096\n"
    assert "warning" in process.stderr and "'<x>' has 70000 there and 4096 here" in process.stderr


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "generation_config.json"])
def test_a_pipe_is_no_file_of_a_model(retrosparse, model, name):
    (model / name).unlink(missing_ok=True)
    os.mkfifo(model / name)
    generate_fails(retrosparse, model, says=[name, "not a regular file"], timeout=20)


def test_tensors_that_the_index_does_not_list_are_a_warning(retrosparse, model):
    shard(model)
    part = model / "model-00001-of-00002.safetensors"
    save_file({**load_file(part), NORM: torch.zeros(256), "extra": torch.zeros(3)}, part)
    process = retrosparse("generate", "--model", model, "--prompt", PROMPT, "--max-new-tokens", 1)
    assert "warning" in process.stderr and NORM in process.stderr and "extra" in process.stderr


@pytest.mark.parametrize("tensor, value", [("model.norm.weight", float("nan")),
                                           ("model.layers.1.mlp.down_proj.weight", float("inf"))])
@pytest.mark.parametrize("options", [[], ["--temperature", "1"], ["--json"], ["--max-new-tokens", "0"]])
def test_scores_that_are_not_finite(retrosparse, model, tmp_path, tensor, value, options):
    broken_tensors(model, lambda tensors: tensors.update({tensor: torch.full_like(tensors[tensor], value)}))
    (tmp_path / "out").mkdir()
    logits = tmp_path / "out" / "logits.safetensors"
    generate_fails(retrosparse, model, "--device", "cpu", *options, says=[str(model), "behind token", "float32", "weights"])
    generate_fails(retrosparse, model, "--device", "cpu", "--logits", logits, *options, says=[str(model), "token 0", "float32"])
    assert os.listdir(logits.parent) == []


def test_a_float16_that_overflows_has_a_hint(retrosparse, model):
    def grow(tensors):
        tensors[NORM] = tensors[NORM] * 1e6

    broken_tensors(model, grow)
    generate_fails(retrosparse, model, "--dtype", "float16", "--device", "cpu", says=["float16", "bfloat16 or float32"])


def test_a_weight_file_is_not_a_model(retrosparse):
    fails(retrosparse, "inspect", NANO / "model.safetensors", says=["model.safetensors", "not a model"])
