"""convert through the command line: stages are skipped, run again, resumed; what comes out runs."""

import json
import os
import signal
import subprocess
import time

import pytest
from safetensors import safe_open
from safetensors.torch import load_file

from conftest import BUILD, NANO, ROOT

RECIPE = ROOT / "recipes" / "quickstart-nano.yaml"
# The bundled recipe, small enough to run many times.
SMALL = ["context_length=768", "plan.window=64", "profile.documents=1", "train.steps=6", "train.save_every=2",
         "train.rows_per_document=32", "calibrate.tasks=[niah1]", "calibrate.p=[0.9]", "calibrate.min_tokens=[16]",
         "calibrate.max_tokens=[32, 64]", "calibrate.head_rounds=0", "validate.tasks=[niah1, nll]",
         "validate.samples=1", "data.tasks=[niah1, vt]"]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}
STAGES = ["profile", "train", "calibrate", "export", "validate", "report"]


def command(out, *settings, subcommand="convert", flags=()):
    changes = [word for setting in [*SMALL, *settings] for word in ("--set", setting)]
    return [str(BUILD / "retrosparse"), subcommand, "--model", str(NANO), "--recipe", str(RECIPE), "--out", str(out),
            "--device", "cpu", "--threads", "1", *changes, *flags]


def convert(out, *settings, subcommand="convert", code=0, flags=()):
    process = subprocess.run(command(out, *settings, subcommand=subcommand, flags=flags), capture_output=True,
                             text=True, env=ENVIRONMENT)
    assert process.returncode == code, process.stderr
    return process


def manifest(out):
    return json.loads((out / "manifest.json").read_text())["stages"]


@pytest.fixture(scope="module")
def converted(tmp_path_factory):
    out = tmp_path_factory.mktemp("converted") / "out"
    convert(out)
    return out


def test_everything_is_written(converted):
    assert [name for name in STAGES if manifest(converted)[name]["state"] == "done"] == STAGES
    report = json.loads((converted / "report" / "report.json").read_text())
    heads = report["profile"]["retrieval_heads"]
    assert sum(map(len, heads)) == round(0.15 * 24)
    assert len(report["train"]["steps"]) == 6
    for head in report["train"]["heads"]:
        assert head["head"] in heads[head["layer"]] and 0 < head["far_mass"] < 1
    assert report["validation"]["variants"]["plan"]["kl_plan"] == 0
    assert report["validation"]["variants"]["dense"]["kl_dense"] == 0
    assert report["validation"]["variants"]["dense"]["kv_bytes"] == 6 * 2 * 2 * 64 * 4 * 768
    html = (converted / "report" / "report.html").read_text()
    assert '"far_mass":' in html and "://" not in html  # the data is in it, and nothing is fetched


def test_what_comes_out_runs(converted, retrosparse):
    config = json.loads((converted / "model" / "config.json").read_text())
    assert config["architectures"] == ["RetroSparseLlamaForCausalLM"]
    prompt = ["--prompt", "The special magic number", "--max-new-tokens", "4", "--device", "cpu"]
    assert retrosparse("generate", "--model", converted / "model", *prompt).stdout
    with safe_open(converted / "model" / "model.safetensors", "pt") as ours, \
            safe_open(NANO / "model.safetensors", "pt") as original:
        for name in original.keys():  # no stage 2 here: the weights are the model's own
            assert ours.get_tensor(name).equal(original.get_tensor(name))


def test_a_second_run_skips_everything(converted):
    before = (converted / "report" / "report.json").read_bytes()
    start = time.monotonic()
    process = convert(converted)
    assert [f"{name}: done before" in process.stderr for name in STAGES] == [True] * len(STAGES)
    assert (converted / "report" / "report.json").read_bytes() == before
    assert time.monotonic() - start < 10


def test_a_changed_setting_runs_again_what_it_changes(tmp_path):
    out = tmp_path / "out"
    convert(out)
    errors = convert(out, "validate.samples=2").stderr
    assert "validate: runs again, since validate.samples was 1, is 2" in errors
    assert "report: runs again, since validate/results.json (content) changed" in errors
    for name in ("profile", "train", "calibrate", "export"):
        assert f"{name}: done before" in errors
    errors = convert(out, "train.steps=3", flags=["--rerun"]).stderr
    assert "train: runs again, since train.steps was 6, is 3" in errors and "profile: done before" in errors
    assert "calibrate: runs again, since train/indexer.safetensors (content) changed" in errors
    weights = out / "model" / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:1000])
    assert "export: runs again, since its files changed or are gone" in convert(out, "train.steps=3").stderr
    assert weights.read_bytes() == whole
    (out / "profile" / "head_plan.json").write_text("{}")
    assert "profile: runs again, since its files changed or are gone" in convert(out, "train.steps=3").stderr


def test_single_stages_need_those_before_them(tmp_path):
    out = tmp_path / "out"
    errors = convert(out, subcommand="train", code=1).stderr
    assert "train needs what profile writes" in errors and "retrosparse profile" in errors
    convert(out, subcommand="profile")
    assert list(manifest(out)) == ["profile"]
    convert(out, subcommand="train")
    assert (out / "train" / "indexer.safetensors").exists()


def killed_while_training(out, signal_number, *settings):
    process = subprocess.Popen(command(out, *settings), stderr=subprocess.PIPE, text=True,
                               env=ENVIRONMENT)
    metrics = out / "train" / "metrics.jsonl"
    deadline = time.monotonic() + 120
    while not (metrics.exists() and metrics.read_text().count("\n") >= 3):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(signal_number)
    _, errors = process.communicate(timeout=120)
    assert not (out / "train" / "results.json").exists(), "it came too late"
    return process.returncode, errors


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_training_goes_on_to_the_same_bits(converted, tmp_path, number):
    out = tmp_path / "out"
    more = ["train.steps=40", "train.save_every=2"]
    code, errors = killed_while_training(out, number, *more)
    if number == signal.SIGINT:
        assert code == 130 and "train: stopped; the same command goes on where it was" in errors
    else:
        assert code == -signal.SIGKILL
    errors = convert(out, *more, subcommand="train").stderr
    assert "goes on at step" in errors
    whole = tmp_path / "whole"
    convert(whole, *more, subcommand="profile")
    convert(whole, *more, subcommand="train")
    ours, expected = (load_file(folder / "train" / "indexer.safetensors") for folder in (out, whole))
    assert ours.keys() == expected.keys()
    for name, tensor in expected.items():
        assert ours[name].equal(tensor), name
    without_times = [[{key: value for key, value in json.loads(line).items() if key != "seconds"}
                      for line in (folder / "train" / "metrics.jsonl").read_text().splitlines()]
                     for folder in (out, whole)]
    assert without_times[0] == without_times[1] and len(without_times[0]) == 40


def test_training_free(tmp_path):
    out = tmp_path / "out"
    convert(out, "train.steps=0", "calibrate.enabled=false", "selection.min_tokens=1024", "selection.max_tokens=1024")
    variants = json.loads((out / "report" / "report.json").read_text())["validation"]["variants"]
    assert variants["sparse"]["kl_plan"] < 1e-9  # 1,024 is more than there are


@pytest.mark.parametrize("settings, says", [
    (["train.stepps=3"], "--set train.stepps=3: key 'train.stepps': unknown key (did you mean 'steps'?)"),
    (["plan.window=1000"], "nothing is beyond the window"),
    (["context_length=100000"], "max_position_embeddings"),
    (["data.held_out_documents=1"], "too few documents are held out"),
    (["validate.tasks=[niah2]"], "niah2"),
    (["data.sources=[{name: a, files: [absent]}]"], "absent"),
])
def test_bad_recipes(tmp_path, settings, says):
    process = convert(tmp_path / "out", *settings, code=1)
    assert says in process.stderr.splitlines()[-1]


def test_a_folder_of_something_else_stays_as_it_is(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    assert "not a place for a conversion" in convert(tmp_path, code=1).stderr
    assert [entry.name for entry in tmp_path.iterdir()] == ["thesis.tex"]
