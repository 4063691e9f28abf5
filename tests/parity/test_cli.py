"""The command line: what it prints, and how it answers wrong usage."""

import json
import os
import subprocess

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from cli_checks import PROMPT, USAGE, fails, model  # noqa: F401 (a fixture)
from conftest import BUILD, NANO, ROOT, write_ids


# --- What works ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["inspect", "plan", "tokenize", "tasks", "generate"])
def test_help_has_an_example_that_runs(retrosparse, command):
    text = retrosparse(command, "--help").stdout
    example = text.split("Example:\n", 1)[1].strip()
    assert example.startswith(f"retrosparse {command} ")
    subprocess.run(["bash", "-c", f"'{BUILD}'/{example}"], cwd=ROOT, check=True, capture_output=True)


def test_version_names_torch(retrosparse):
    assert "torch 2.11" in retrosparse("--version").stdout


def test_inspect_lists_what_is_stored(retrosparse):
    shown = json.loads(retrosparse("inspect", NANO, "--json", "--tensors").stdout)
    with safe_open(NANO / "model.safetensors", "pt") as file:
        stored = {name: list(file.get_slice(name).get_shape()) for name in file.keys()}
    assert {name: tensor["shape"] for name, tensor in shown["weights"]["tensors"].items()} == stored
    assert shown["parameters"] == sum(torch.Size(shape).numel() for shape in stored.values())
    assert shown["weights"]["missing"] == shown["weights"]["surplus"] == shown["weights"]["wrong"] == []
    assert shown["weights"]["tied_embedding_stored_as"] == ["model.embed_tokens.weight"]
    text = retrosparse("inspect", NANO, "--tensors").stdout
    assert all(name in text for name in stored)


def test_inspect_without_weights_shows_the_rest(retrosparse, model):
    (model / "model.safetensors").unlink()
    shown = json.loads(retrosparse("inspect", model, "--json").stdout)
    assert shown["weights"] is None and "no weights" in shown["no_weights"] and shown["num_hidden_layers"] == 6
    assert "no weights" in retrosparse("inspect", model).stdout


def test_tied_weights_under_the_other_name(retrosparse, model):
    tensors = load_file(model / "model.safetensors")
    tensors["lm_head.weight"] = tensors.pop("model.embed_tokens.weight")
    save_file(tensors, model / "model.safetensors")
    shown = json.loads(retrosparse("inspect", model, "--json").stdout)
    assert shown["weights"]["tied_embedding_stored_as"] == ["lm_head.weight"]
    command = ["--prompt", PROMPT, "--max-new-tokens", "5", "--ids"]
    assert (retrosparse("generate", "--model", model, *command).stdout
            == retrosparse("generate", "--model", NANO, *command).stdout)


def test_tokenize_there_and_back(retrosparse, tmp_path):
    text = "naïve – 日本語 🤖\n\n  and  spaces\n"
    (tmp_path / "text").write_text(text)
    ids = retrosparse("tokenize", "--model", NANO, "--file", tmp_path / "text").stdout
    assert retrosparse("tokenize", "--model", NANO, input=text).stdout == ids
    assert retrosparse("tokenize", "--model", NANO, text).stdout == ids
    assert retrosparse("tokenize", "--model", NANO, "--decode", input=ids).stdout == text
    assert retrosparse("tokenize", "--model", NANO, "--count", text).stdout == f"{len(ids.split())}\n"
    shown = json.loads(retrosparse("tokenize", "--model", NANO, "--json", text).stdout)
    assert shown["ids"] == list(map(int, ids.split())) and len(shown["pieces"]) == shown["count"]


def test_special_tokens_are_left_out_on_demand(retrosparse):
    command = ["tokenize", "--model", NANO, "--decode", "1 0"]
    assert retrosparse(*command).stdout == "<|im_start|><|endoftext|>"
    assert retrosparse(*command, "--no-special").stdout == ""


def test_every_kind_of_prompt_and_output_agrees(retrosparse, tmp_path):
    (tmp_path / "prompt").write_text(PROMPT)
    ids = retrosparse("tokenize", "--model", NANO, PROMPT).stdout
    command = ["generate", "--model", NANO, "--max-new-tokens", "12"]
    text = retrosparse(*command, "--prompt", PROMPT).stdout
    assert retrosparse(*command, "--prompt-file", tmp_path / "prompt").stdout == text
    assert retrosparse(*command, "--prompt-file", "-", input=PROMPT).stdout == text
    assert retrosparse(*command, "--prompt-ids", "-", input=ids).stdout == text
    shown = json.loads(retrosparse(*command, "--prompt", PROMPT, "--json").stdout)
    assert shown["text"] + "\n" == text and shown["prompt_tokens"] == len(ids.split())
    new_ids = retrosparse(*command, "--prompt", PROMPT, "--ids").stdout
    assert list(map(int, new_ids.split())) == shown["ids"]
    assert retrosparse("tokenize", "--model", NANO, "--decode", "--no-special", new_ids).stdout + "\n" == text


def test_a_model_without_tokenizer_prints_ids(retrosparse, model, tmp_path):
    (model / "tokenizer.json").unlink()
    ids = write_ids(tmp_path / "ids.json", [5, 6, 7])
    command = ["--prompt-ids", ids, "--max-new-tokens", "4", "--ids"]
    assert (retrosparse("generate", "--model", model, *command[:-1]).stdout
            == retrosparse("generate", "--model", NANO, *command).stdout)


def test_generation_config_decides_where_to_stop(retrosparse, model):
    command = ["generate", "--model", model, "--prompt", PROMPT, "--max-new-tokens", "9", "--json"]
    ids = json.loads(retrosparse(*command).stdout)["ids"]
    first = {id: place for place, id in reversed(list(enumerate(ids)))}
    stop = max(first, key=first.get)
    (model / "generation_config.json").write_text(json.dumps({"eos_token_id": [4095, stop]}))
    stopped = json.loads(retrosparse(*command).stdout)
    assert stopped["ids"] == ids[:first[stop]] and stopped["stopped_by"] == "end of sequence"
    assert json.loads(retrosparse(*command, "--ignore-eos").stdout)["ids"] == ids


@pytest.mark.parametrize("file", ["config.json", "generation_config.json"])
def test_stops_where_transformers_stops(file, retrosparse, model):
    """The end-of-sequence token itself is left out."""
    prompt = json.loads(retrosparse("tokenize", "--model", model, "--json", PROMPT).stdout)["ids"]
    command = ["generate", "--model", model, "--prompt", PROMPT, "--max-new-tokens", "12", "--json"]
    free = json.loads(retrosparse(*command, "--ignore-eos").stdout)["ids"]
    stops = [4095, free[5]]
    settings = json.loads((model / file).read_text()) if (model / file).exists() else {}
    (model / file).write_text(json.dumps(dict(settings, eos_token_id=stops)))
    theirs = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32).generate(
        torch.tensor([prompt]), max_new_tokens=12, do_sample=False, pad_token_id=0)[0][len(prompt):].tolist()
    assert theirs[-1] == free[5]
    assert json.loads(retrosparse(*command).stdout)["ids"] == theirs[:-1]


def test_generation_settings_that_are_not_applied(retrosparse, model):
    settings = {"repetition_penalty": 1.1, "no_repeat_ngram_size": 0, "temperature": 0.7, "eos_token_id": 4095}
    (model / "generation_config.json").write_text(json.dumps(settings))
    warning = retrosparse("generate", "--model", model, "--prompt", PROMPT, "--max-new-tokens", "1").stderr
    assert "not applied" in warning and warning.count("repetition_penalty: 1.1") == 1
    assert "no_repeat_ngram_size" not in warning and "temperature" not in warning


def test_logits_do_not_depend_on_chunks(retrosparse, tmp_path):
    ids = write_ids(tmp_path / "ids.json", [(37 * i * i) % 4096 for i in range(700)])
    logits = {}
    for chunk in (64, 300, 4096):
        out = tmp_path / f"{chunk}.safetensors"
        retrosparse("generate", "--model", NANO, "--prompt-ids", ids, "--max-new-tokens", 0, "--logits", out,
                    "--prefill-chunk", chunk)
        logits[chunk] = load_file(out)["logits"]
        assert logits[chunk].shape == (700, 4096) and logits[chunk].dtype == torch.float32
    for chunk in (64, 300):
        assert (logits[chunk] - logits[4096]).abs().max() <= 1e-4 * logits[4096].abs().max()


def test_planned_attention_is_dense_where_everything_is_near(retrosparse):
    command = ["generate", "--model", NANO, "--prompt-file", ROOT / "examples/prompts/needle.txt",
               "--max-new-tokens", "8"]
    dense = retrosparse(*command).stdout
    assert "7294018" in dense
    assert retrosparse(*command, "--window", 4096).stdout == dense
    every_head = ",".join(f"{layer}.{head}" for layer in range(6) for head in range(4))
    assert retrosparse(*command, "--window", 16, "--dense-heads", every_head).stdout == dense
    assert "7294018" not in retrosparse(*command, "--window", 256).stdout  # 1,700 tokens from the answer


def test_plan_counts_the_bundled_model(retrosparse):
    shown = json.loads(retrosparse("plan", NANO, "--json", "--lengths", "4k,100").stdout)
    with safe_open(NANO / "model.safetensors", "pt") as file:
        stored = sum(torch.Size(file.get_slice(name).get_shape()).numel() for name in file.keys())
    assert shown["parameters"]["total"] == stored and shown["weight_bytes"] == 2 * stored
    assert [length["tokens"] for length in shown["lengths"]] == [4096, 100]
    assert shown["lengths"][0]["kv_cache_bytes"]["dense"] == 6 * 2 * 2 * 64 * 2 * 4096
    text = retrosparse("plan", NANO, "--gpu", "H200", "--lengths", "4k").stdout
    assert "H200" in text and "B200" not in text


def test_plan_adds_weights_and_caches_on_each_gpu(retrosparse):
    shown = json.loads(retrosparse("plan", NANO, "--json", "--gpu", "H200", "--lengths", "4k,1m").stdout)
    length, memory = shown["lengths"][1], shown["gpus"][0]["memory_bytes_each"][1]
    assert memory["dense"] == shown["weight_bytes"] + length["kv_cache_bytes"]["dense"]
    sparse = length["kv_cache_bytes"]["sparse"] + length["index_cache_bytes"]["sparse"]
    assert abs(memory["sparse"] - shown["weight_bytes"] - sparse) <= 2  # each is rounded
    assert isinstance(length["kv_cache_bytes"]["sparse"], int)


def test_peak_memory_is_our_own(retrosparse):
    ballast = bytearray(os.urandom(1 << 20) * 700)  # a process's maximum must not count for those that it starts
    shown = json.loads(retrosparse("generate", "--model", NANO, "--prompt", "Once", "--max-new-tokens", 1, "--json",
                                   "--device", "cpu").stdout)
    assert 0 < shown["peak_memory_bytes"] < len(ballast)


def test_nothing_decodes_to_nothing(retrosparse):
    assert retrosparse("tokenize", "--model", NANO, "").stdout == "\n"
    for ids in ("", "[]", " \n"):
        assert retrosparse("tokenize", "--model", NANO, "--decode", ids).stdout == ""


# --- Wrong command lines: exit code 2 -----------------------------------------------------------------------------


@pytest.mark.parametrize("arguments, says", [
    ([], "subcommand"),
    (["inspekt"], "did you mean 'inspect'"),
    (["inspect", NANO, "--jsn"], "did you mean '--json'"),
    (["inspect"], "DIR"),
    (["inspect", ""], "DIR: an empty name"),
    (["generate", "--prompt", "a", "--model", ""], "--model: an empty name"),
    (["plan"], "CONFIG_OR_DIR is required"),
    (["plan", ""], "an empty name"),
    (["generate", "--model", NANO], "--prompt-ids"),
    (["generate", "--model", NANO, "--prompt", "a", "--prompt-file", "b"], "exclude each other"),
    (["generate", "--prompt", "a"], "--model"),
    (["generate", "--model", NANO, "--prompt", "a", "--device", "tpu"], "tpu"),
    (["generate", "--model", NANO, "--prompt", "a", "--dtype", "int8"], "int8"),
    (["generate", "--model", NANO, "--prompt", "a", "--max-new-tokens", "-1"], "--max-new-tokens"),
    (["generate", "--model", NANO, "--prompt", "a", "--prefill-chunk", "0"], "--prefill-chunk"),
    (["generate", "--model", NANO, "--prompt", "a", "--dense-heads", "0.0"], "--window"),
    (["generate", "--model", NANO, "--prompt", "a", "--window", "9", "--dense-heads", "6.0"], "layers go from 0 to 5"),
    (["generate", "--model", NANO, "--prompt", "a", "--window", "0"], "--window"),
    (["generate", "--model", NANO, "--prompt", "a", "--quiet", "--verbose"], "verbose"),
    (["generate", "--model", NANO, "--prompt", "a", "--logits", ""], "--logits: an empty name"),
    (["generate", "--model", NANO, "--prompt", "a", "--top-p", "0.5"], "--temperature"),
    (["tokenize", "--model", NANO, "text", "--file", "f"], "exclude each other"),
    (["plan", NANO, "--lengths", "4q"], "'4q'"),
    (["plan", NANO, "--gpu", "H2O0"], "did you mean 'H200'"),
    (["plan", NANO, "--gpu", ""], "--gpu: an empty name"),
    (["plan", NANO, "--retrieval-share", "1.5"], "--retrieval-share"),
])
def test_wrong_usage(retrosparse, arguments, says):
    fails(retrosparse, *arguments, code=USAGE, says=says)
