"""Files and folders that the user may not read or write: one clear line that names them, and nothing is lost.

Nothing is forbidden to root, so that as root the program runs as a user without rights."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from cli_checks import PROMPT
from conftest import BUILD, NANO
from test_convert import ENVIRONMENT, RECIPE, command, manifest
from test_convert_bad_input import contents

NOBODY = 65534
BESIDE_ERRORS = ("== ", "export to ", "warning: ")  # what a conversion may say before
AS_NOBODY = {"user": NOBODY, "group": NOBODY, "extra_groups": []} if os.geteuid() == 0 else {}


def run(arguments, folder):
    return subprocess.run([str(BUILD / "retrosparse"), *map(str, arguments)], capture_output=True, text=True,
                          env=ENVIRONMENT, cwd=folder, timeout=120, **AS_NOBODY)


@pytest.fixture
def folder():
    """An empty folder of that user's; tmp_path lies in one that only its owner may enter."""
    path = Path(tempfile.mkdtemp(prefix="retrosparse-permissions-"))
    try:
        give(path)
        try:
            process = run(["--version"], path)
        except OSError as problem:
            pytest.skip(f"cannot run the program as another user: {problem}")
        if process.returncode != 0:
            pytest.skip(f"another user cannot run the program: {process.stderr}")
        yield path
    finally:
        for parent, folders, _ in os.walk(path):
            for name in folders:
                os.chmod(os.path.join(parent, name), 0o755)
        shutil.rmtree(path)


def give(path):
    if AS_NOBODY:
        os.chown(path, NOBODY, NOBODY)
    return path


@pytest.fixture
def model(folder):
    copy = shutil.copytree(NANO, folder / "model")
    for path in [copy, *copy.iterdir()]:
        give(path).chmod(0o755 if path.is_dir() else 0o644)
    return copy


def fails(arguments, folder, names):
    process = run(arguments, folder)
    assert process.returncode == 1 and process.stdout == "", process.stderr
    lines = [line for line in process.stderr.splitlines() if not line.startswith(BESIDE_ERRORS)]
    assert len(lines) == 1, lines
    assert lines[0].startswith(f"retrosparse: error: {names}") and "Permission denied" in lines[0], lines
    assert "internal" not in lines[0]


def converting(model, out, *more, subcommand="convert"):
    arguments = command(out, subcommand=subcommand)[1:]
    arguments[arguments.index("--model") + 1] = str(model)
    return [*arguments, *more]


def shut(path, mode=0):
    path.chmod(mode)
    return path


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json", "generation_config.json"])
def test_a_file_of_the_model_that_may_not_be_read(folder, model, name):
    if not (model / name).exists():
        (model / name).write_text("{}")
    shut(give(model / name))
    fails(["generate", "--model", model, "--prompt", PROMPT], folder, names=model / name)
    if name == "tokenizer.json":
        fails(["tokenize", "--model", model, "a"], folder, names=model / name)
    elif name != "generation_config.json":
        fails(["inspect", model], folder, names=model / name)
    if name != "generation_config.json":
        fails(converting(model, folder / "out"), folder, names=model / name)


@pytest.mark.parametrize("mode", [0, 0o644], ids=["closed", "listed but not entered"])
def test_a_model_folder_that_may_not_be_entered(folder, model, mode):
    shut(model, mode)
    for arguments in (["inspect"], ["plan"], ["tokenize", "a", "--model"], ["generate", "--prompt", "a", "--model"]):
        fails([*arguments, model], folder, names=model)
    fails(converting(model, folder / "out"), folder, names=model)
    assert not (folder / "out").exists()


def test_other_inputs_that_may_not_be_read(folder, model):
    (folder / "input").write_text("1 2 3")
    path = shut(give(folder / "input"))
    for option in ("--prompt-file", "--prompt-ids"):
        fails(["generate", "--model", model, option, path], folder, names=path)
    fails(["tokenize", "--model", model, "--file", path], folder, names=path)
    fails(["tasks", "--model", model, "--text", path], folder, names=path)
    fails(converting(model, folder / "out", "--text", path), folder, names=path)
    fails([path if word == str(RECIPE) else word for word in converting(model, folder / "out")], folder, names=path)
    assert path.stat().st_size == 5


@pytest.mark.parametrize("mode", [0, 0o555], ids=["closed", "read-only"])
def test_outputs_into_a_folder_that_may_not_be_written(folder, model, mode):
    target = folder / "target"
    target.mkdir()
    (target / "logits.safetensors").write_text("precious")
    shut(give(target), mode)
    for name in ("logits.safetensors", "new.safetensors"):
        fails(["generate", "--model", model, "--prompt", PROMPT, "--max-new-tokens", "1", "--device", "cpu", "--logits",
               target / name], folder, names=target / name)
    fails(converting(model, target / "out"), folder, names=target / "out")
    shut(target, 0o755)
    assert contents(target) == {Path("logits.safetensors"): b"precious"} and len(list(target.iterdir())) == 1


def test_a_conversion_whose_folder_was_shut(folder, model):
    out = folder / "out"
    assert run(converting(model, out, subcommand="profile"), folder).returncode == 0
    before = contents(out)
    for path, mode in ((out, 0o555), (out, 0), (out / "profile", 0), (out / "manifest.json", 0)):
        was = path.stat().st_mode
        shut(path, mode)
        fails(converting(model, out, subcommand="train"), folder, names=out)
        path.chmod(was)
        assert contents(out) == before
    assert run(converting(model, out, subcommand="train"), folder).returncode == 0
    assert manifest(out)["train"]["state"] == "done"


def test_an_export_to_a_folder_that_may_not_be_written(folder, model):
    out, target = folder / "out", folder / "target"
    assert run(converting(model, out), folder).returncode == 0
    before = contents(out)
    target.mkdir()
    shut(give(target), 0o555)
    fails(converting(model, out, "--to", target / "model", subcommand="export"), folder, names=target / "model")
    assert contents(out) == before and list(target.iterdir()) == []
