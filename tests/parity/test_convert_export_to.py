"""export --to: the finished conversion's model in a folder of the user's choice."""

import json
import shutil
import subprocess

import pytest

from cli_checks import full_disk
from conftest import NANO
from test_convert import ENVIRONMENT, command, convert
from test_convert_bad_input import contents, refused


@pytest.fixture(scope="module")
def conversion(tmp_path_factory):
    out = tmp_path_factory.mktemp("conversion") / "out"
    convert(out)
    return out


def export(out, to, *options, code=0, **how):
    process = subprocess.run([*command(out, subcommand="export"), "--to", str(to), *options], capture_output=True,
                             text=True, env=ENVIRONMENT, **how)
    assert process.returncode == code, process.stderr
    return process


def test_the_same_model_elsewhere(conversion, tmp_path, retrosparse):
    before, to = contents(conversion), tmp_path / "new" / "model"
    export(conversion, to)
    assert contents(to) == contents(conversion / "model")
    assert contents(conversion) == before
    assert [entry.name for entry in to.parent.iterdir()] == ["model"]
    assert retrosparse("generate", "--model", to, "--prompt", "The special", "--max-new-tokens", 2, "--quiet").stdout


def test_an_earlier_export_is_replaced_only_when_asked(conversion, tmp_path):
    to = tmp_path / "model"
    shutil.copytree(conversion / "model", to)
    (to / "README.md").write_text("an older one")
    older = contents(to)
    refused(export(conversion, to, code=1), str(to), "not empty", "--overwrite")
    assert contents(to) == older
    refused(export(conversion, to, "--overwrite", code=1, preexec_fn=full_disk, restore_signals=False), "cannot write")
    assert contents(to) == older and [entry.name for entry in tmp_path.iterdir()] == ["model"]
    export(conversion, to, "--overwrite")
    assert contents(to) == contents(conversion / "model")
    assert [entry.name for entry in tmp_path.iterdir()] == ["model"]


def test_what_is_not_an_export_stays(conversion, tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    before = contents(conversion)
    refused(export(conversion, tmp_path, "--overwrite", code=1), str(tmp_path), "expected an earlier export")
    refused(export(conversion, tmp_path / "thesis.tex", "--overwrite", code=1), "not a folder")
    refused(export(conversion, NANO, "--overwrite", code=1), "the model that is exported lies there")
    refused(export(conversion, conversion, "--overwrite", code=1), "expected an earlier export")
    assert (tmp_path / "thesis.tex").read_text() == "years of work" and contents(conversion) == before
    assert (NANO / "model.safetensors").exists()


def test_there_has_to_be_a_conversion(tmp_path):
    refused(export(tmp_path / "absent", tmp_path / "model", code=1), "export needs what profile writes")
    assert list(tmp_path.iterdir()) == []
    process = subprocess.run([*command(tmp_path, subcommand="export"), "--overwrite"], capture_output=True, text=True)
    assert process.returncode == 2 and "--to" in process.stderr


def test_a_folder_that_another_wrote_is_not_taken_for_the_export(conversion, tmp_path):
    """out/model and out/adapter that this conversion has not written, as complete as they may be."""
    out = tmp_path / "out"
    shutil.copytree(conversion, out)
    manifest = json.loads((out / "manifest.json").read_text())
    del manifest["stages"]["export"]
    (out / "manifest.json").write_text(json.dumps(manifest))
    for name, subcommand in [("adapter", "export"), ("model", "convert")]:
        before = contents(out)
        refused(convert(out, subcommand=subcommand, code=1), str(out / name), "no export stage")
        assert contents(out) == before
        shutil.rmtree(out / name)
    convert(out, subcommand="export")
    assert contents(out / "model") == contents(conversion / "model")


def test_the_old_export_stays_until_the_new_one_is_complete(conversion, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(conversion, out)
    old = contents(out / "model")
    other = ["calibrate.enabled=false", "selection.min_tokens=7", "validate.tasks=[nll]"]
    convert(out, *other, subcommand="calibrate")
    process = subprocess.run(command(out, *other, subcommand="export"), capture_output=True, text=True, env=ENVIRONMENT,
                             preexec_fn=full_disk, restore_signals=False)
    refused(process, "cannot write")
    assert contents(out / "model") == old
    convert(out, *other, subcommand="export")
    assert contents(out / "model") != old
    (out / "model" / "config.json").write_text("{}")
    assert "its files changed" in convert(out, *other, subcommand="export").stderr
