"""The command line: what it prints, and that bad input gets one clear line, the right exit code and destroys nothing."""

import json
import os
import resource
import shutil
import signal
import struct
import subprocess

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from conftest import BUILD, NANO, ROOT, write_ids

ERROR, USAGE, INTERRUPTED = 1, 2, 130
PROMPT = "The special magic number is"


def fails(retrosparse, *arguments, code=ERROR, says=(), **options):
    """The command fails with one line on stderr, which contains all of `says`, and leaves nothing on stdout."""
    process = retrosparse(*arguments, check=False, **options)
    assert process.returncode == code, process.stderr
    lines = process.stderr.splitlines()
    assert len(lines) == 1 and lines[0].startswith("retrosparse: error: "), process.stderr
    for part in [says] if isinstance(says, str) else says:
        assert part in lines[0]
    assert process.stdout == ""
    return process


def generate_fails(retrosparse, model, *arguments, **options):
    return fails(retrosparse, "generate", "--model", model, "--prompt", PROMPT, *arguments, **options)


@pytest.fixture
def model(tmp_path):
    """A copy of nano that a test may break."""
    return shutil.copytree(NANO, tmp_path / "model")


def edit_json(path, **changes):
    """Sets keys; a value of `...` removes the key."""
    content = json.loads(path.read_text())
    for key, value in changes.items():
        content.pop(key, None)
        if value is not ...:
            content[key] = value
    path.write_text(json.dumps(content))


def header_of(path):
    data = path.read_bytes()
    length, = struct.unpack("<Q", data[:8])
    return json.loads(data[8:8 + length]), data[8 + length:]


def write_raw(path, header, data):
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


# --- What works ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["inspect", "plan", "tokenize", "generate"])
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


# --- Wrong command lines: exit code 2 -----------------------------------------------------------------------------


@pytest.mark.parametrize("arguments, says", [
    ([], "subcommand"),
    (["inspekt"], "did you mean 'inspect'"),
    (["inspect", NANO, "--jsn"], "did you mean '--json'"),
    (["inspect"], "DIR"),
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
    (["tokenize", "--model", NANO, "text", "--file", "f"], "exclude each other"),
    (["plan", NANO, "--lengths", "4q"], "'4q'"),
    (["plan", NANO, "--gpu", "H2O0"], "did you mean 'H200'"),
    (["plan", NANO, "--retrieval-share", "1.5"], "--retrieval-share"),
])
def test_wrong_usage(retrosparse, arguments, says):
    fails(retrosparse, *arguments, code=USAGE, says=says)


# --- Broken checkpoints -------------------------------------------------------------------------------------------


def test_missing_folder(retrosparse, tmp_path):
    for command in (["inspect"], ["plan"], ["tokenize", "a", "--model"], ["generate", "--prompt", "a", "--model"]):
        fails(retrosparse, *command, tmp_path / "absent", says=str(tmp_path / "absent"))


def break_truncated(path):
    path.write_bytes(path.read_bytes()[:-1000])


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
    (lambda tensors: tensors.update({NORM: torch.zeros(256, dtype=torch.int8)}), ["Char", "float32"]),
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
    ({"architectures": ...}, "architectures"),
    ({"quantization_config": {"quant_method": "fp8"}}, "fp8"),
    ({"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}}, "dynamic"),
    ({"hidden_act": "gelu"}, "gelu"),
])
def test_broken_config(retrosparse, model, changes, says):
    edit_json(model / "config.json", **changes)
    for command in (["inspect"], ["plan"], ["generate", "--prompt", "a", "--model"]):
        fails(retrosparse, *command, model, says=["config.json", says])


def test_a_window_of_the_models_own_is_refused(retrosparse, model):
    edit_json(model / "config.json", architectures=["MistralForCausalLM"], sliding_window=4096)
    fails(retrosparse, "inspect", model, says=["sliding_window", "4096"])


@pytest.mark.parametrize("text", ["", "{", '{"model": {"type": "BPE"'])
def test_config_that_is_not_json(retrosparse, model, text):
    (model / "config.json").write_text(text)
    fails(retrosparse, "inspect", model, says="config.json")


@pytest.mark.parametrize("change, says", [
    (lambda tokenizer: tokenizer["model"].update(type="Unigram"), "Unigram"),
    (lambda tokenizer: tokenizer["model"].pop("merges"), "merges"),
    (lambda tokenizer: tokenizer["model"]["merges"].append("zz zz qq"), "merges"),
    (lambda tokenizer: tokenizer.pop("model"), "model"),
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


# --- Bad prompts --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text, says", [("[1, 4096]", "0 to 4095"), ("-1", "found -1"), ("1 two", "'two'"),
                                        ("[1, 2", "JSON"), ("", "no token ids"), ("[]", "no token ids")])
def test_bad_ids(retrosparse, tmp_path, text, says):
    (tmp_path / "ids").write_text(text)
    fails(retrosparse, "generate", "--model", NANO, "--prompt-ids", tmp_path / "ids", says=[str(tmp_path / "ids"), says])


def test_bad_ids_to_decode(retrosparse):
    fails(retrosparse, "tokenize", "--model", NANO, "--decode", "1 99999", says="99999")
    fails(retrosparse, "tokenize", "--model", NANO, "--decode", "1 x", says="'x'")


def test_bad_text(retrosparse, tmp_path):
    (tmp_path / "latin1").write_bytes("caf\xe9".encode("latin1"))
    fails(retrosparse, "generate", "--model", NANO, "--prompt-file", tmp_path / "latin1", says="latin1")
    fails(retrosparse, "tokenize", "--model", NANO, "--file", tmp_path / "latin1", says="latin1")
    fails(retrosparse, "generate", "--model", NANO, "--prompt", "", says="empty")
    fails(retrosparse, "generate", "--model", NANO, "--prompt-file", tmp_path / "absent", says="absent")
    fails(retrosparse, "generate", "--model", NANO, "--prompt-file", tmp_path, says=str(tmp_path))


def test_a_prompt_beyond_the_models_length_is_a_warning(retrosparse, model, tmp_path):
    edit_json(model / "config.json", max_position_embeddings=16)
    ids = write_ids(tmp_path / "ids.json", range(20, 40))
    process = retrosparse("generate", "--model", model, "--prompt-ids", ids, "--max-new-tokens", 2)
    assert "warning" in process.stderr and "20 tokens" in process.stderr and "16" in process.stderr
    quiet = retrosparse("generate", "--model", model, "--prompt-ids", ids, "--max-new-tokens", 2, "--quiet")
    assert quiet.stderr == "" and quiet.stdout == process.stdout


# --- Devices ------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
@pytest.mark.parametrize("device", ["cuda", "cuda:1"])
def test_no_gpu(retrosparse, device):
    process = generate_fails(retrosparse, NANO, "--device", device, says=f"--device {device}")
    cpu_build = "CPU build" in retrosparse("--version").stdout
    assert ("without CUDA" if cpu_build else "no GPU") in process.stderr


# --- Outputs ------------------------------------------------------------------------------------------------------


@pytest.fixture
def kept(tmp_path):
    """A file that a failing command was told to write: it has to survive, and nothing may be left beside it."""
    folder = tmp_path / "out"
    folder.mkdir()
    path = folder / "logits.safetensors"
    path.write_bytes(b"precious")
    yield path
    assert path.read_bytes() == b"precious" and os.listdir(folder) == [path.name]


def full_disk():
    """No file may grow beyond 100 kB: what a full disk looks like to a writer."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))


def test_full_disk(retrosparse, tmp_path, kept):
    ids = write_ids(tmp_path / "ids.json", range(100, 200))  # 1.6 MB of logits
    fails(retrosparse, "generate", "--model", NANO, "--prompt-ids", ids, "--logits", kept, "--quiet",
          preexec_fn=full_disk, restore_signals=False, says=[str(kept), "cannot write"])


def test_full_standard_output():
    with open("/dev/full", "w") as full:
        process = subprocess.run([BUILD / "retrosparse", "plan", NANO], stdout=full, stderr=subprocess.PIPE, text=True)
    assert process.returncode == ERROR and "No space left on device" in process.stderr
    assert len(process.stderr.splitlines()) == 1


def test_unwritable_output(retrosparse, tmp_path):
    for out in (tmp_path / "absent" / "logits.safetensors", tmp_path, "/dev/null"):
        generate_fails(retrosparse, NANO, "--logits", out, says=str(out))


def test_a_failing_model_leaves_the_output_alone(retrosparse, model, kept):
    break_truncated(model / "model.safetensors")
    generate_fails(retrosparse, model, "--logits", kept, says="model.safetensors")


def test_interrupt(kept):
    command = [BUILD / "retrosparse", "generate", "--model", NANO, "--prompt", PROMPT, "--ignore-eos",
               "--max-new-tokens", "100000", "--logits", kept, "--ids"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout.read(1)  # it generates
    process.send_signal(signal.SIGINT)
    process.stdout.read()
    errors = process.stderr.read()
    assert process.wait(timeout=60) == INTERRUPTED and "interrupted" in errors.splitlines()[-1]
