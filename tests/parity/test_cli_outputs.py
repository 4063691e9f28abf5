"""Bad prompts, devices and outputs through the command line: one clear line, and what existed stays."""

import os
import signal
import subprocess

import pytest
import torch

from cli_checks import ERROR, INTERRUPTED, PROMPT, break_truncated, edit_json, fails, full_disk, generate_fails, model  # noqa: F401 (a fixture)
from conftest import BUILD, NANO, write_ids


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


def test_full_disk(retrosparse, tmp_path, kept):
    ids = write_ids(tmp_path / "ids.json", range(100, 200))  # 1.6 MB of logits
    fails(retrosparse, "generate", "--model", NANO, "--prompt-ids", ids, "--logits", kept, "--quiet",
          preexec_fn=full_disk, says=[str(kept), "cannot write"])


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


def test_interrupt_in_a_long_prefill(tmp_path):
    ids = write_ids(tmp_path / "ids.json", [5] * 32768)
    process = subprocess.Popen([BUILD / "retrosparse", "generate", "--model", NANO, "--prompt-ids", ids, "--verbose",
                                "--prefill-chunk", "32768"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(timeout=3)  # loaded, and most of the one chunk's forward pass is left
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == INTERRUPTED and "interrupted" in errors.splitlines()[-1]
    assert output == ""
