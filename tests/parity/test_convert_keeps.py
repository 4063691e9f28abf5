"""What a conversion has finished stays: a changed input is noticed, a mistake costs nothing, training is not thrown away
without being asked to."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from safetensors import safe_open

from conftest import NANO
from test_convert import ENVIRONMENT, command, convert, manifest
from test_convert_bad_input import contents, refused

BOOK = "She wrote a letter to the harbour master about the lamp, and nobody answered it for years. "
TRAINED = ["profile", "train"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    out = tmp_path_factory.mktemp("trained") / "out"
    for stage in TRAINED:
        convert(out, subcommand=stage)
    return out


@pytest.fixture
def out(trained, tmp_path):
    shutil.copytree(trained, tmp_path / "out")
    return tmp_path / "out"


def run(*words):
    return subprocess.run([*map(str, words)], capture_output=True, text=True, env=ENVIRONMENT)


def with_model(arguments, model):
    arguments[arguments.index("--model") + 1] = str(model)
    return arguments


@pytest.fixture
def model(tmp_path):
    return shutil.copytree(NANO, tmp_path / "model")


def test_any_changed_weight_is_another_model(out, model):
    path = model / "model.safetensors"
    with safe_open(path, "pt") as file:
        size = file.get_tensor("model.layers.0.mlp.down_proj.weight").nbytes
    data = bytearray(path.read_bytes())
    header = json.loads(data[8:8 + int.from_bytes(data[:8], "little")])
    begin = 8 + int.from_bytes(data[:8], "little") + header["model.layers.0.mlp.down_proj.weight"]["data_offsets"][0]
    data[begin + size // 2] ^= 1
    path.write_bytes(data)
    refused(run(*with_model(command(out), model)), "another model")


def test_a_changed_tokenizer_is_noticed(out, model):
    path = model / "tokenizer.json"
    tokenizer = json.loads(path.read_text())
    path.write_text(json.dumps(tokenizer, indent=2))
    refused(run(*with_model(command(out), model)), "made with other settings", "tokenizer.json (content) changed")


def test_changed_text_of_a_second_file_with_the_same_name_is_noticed(tmp_path):
    files = [tmp_path / name / "book.txt" for name in "ab"]
    for file in files:
        file.parent.mkdir()
        file.write_text("\0".join(f"{file} {part}. " + BOOK * 600 for part in range(3)))
    profile = [*command(tmp_path / "out", subcommand="profile"), "--text", *files]
    assert run(*profile).returncode == 0
    assert "profile: done before" in run(*profile).stderr
    files[0].write_text(files[0].read_text().replace("letter", "ballad"))
    errors = run(*profile).stderr
    assert "profile: runs again, since data text: book.txt (content) changed" in errors


def test_changed_task_formats_are_noticed(tmp_path):
    formats = tmp_path / "formats.yaml"
    formats.write_text((NANO.parents[1] / "configs" / "tasks" / "retrieval.yaml").read_text())
    setting = f"data.task_formats={formats}"
    convert(tmp_path / "out", setting, subcommand="profile")
    formats.write_text(formats.read_text() + "# and a remark\n")
    errors = convert(tmp_path / "out", setting, subcommand="profile").stderr
    assert "profile: runs again, since data.task_formats (content) changed" in errors


@pytest.mark.parametrize("stage", ["train", "calibrate"])
def test_a_stage_does_not_follow_one_with_other_settings(out, stage):
    before = contents(out)
    refused(convert(out, "plan.window=128", subcommand=stage, code=1), f"{stage} follows profile",
            "plan.window was 64, is 128", "run `retrosparse profile` again")
    assert contents(out) == before


def test_finished_training_begins_anew_only_when_asked_to(out):
    before = contents(out)
    for setting, says in [("train.steps=3", "train.steps was 6, is 3"), ("plan.window=128", "plan.window was 64, is 128")]:
        for subcommand in ["convert"] if "plan" in setting else ["convert", "train"]:
            refused(convert(out, setting, subcommand=subcommand, code=1), str(out), "train would begin anew", says,
                    "--rerun")
            assert contents(out) == before
    assert convert(out, "validate.samples=2").returncode == 0


@pytest.mark.parametrize("stage, settings, says", [
    ("profile", ["data.held_out_documents=100"], "held out"),
    ("profile", ["profile.documents=2", "data.tasks=[nope]"], "nope"),
    ("train", ["train.learning_rate=1e30"], "not finite"),
])
def test_a_mistake_costs_nothing(out, stage, settings, says):
    before = contents(out)
    refused(convert(out, *settings, subcommand=stage, code=1, flags=["--rerun"]), says)
    now = contents(out)
    for one in (before, now):
        del one[Path("manifest.json")]  # which says when it was written; its records are compared below
    assert now == before
    assert {name: record["state"] for name, record in manifest(out).items()} == dict.fromkeys(TRAINED, "done")
    for name in TRAINED:
        assert f"{name}: done before" in convert(out, subcommand=name).stderr


@pytest.mark.parametrize("setting, says", [
    ("calibrate.tasks=[niah2]", "niah2"),
    ("validate.tasks=[nope]", "nope"),
    ("calibrate={tasks: [niah1], min_tokens: [500], max_tokens: [50]}", "min_tokens"),
    ("index.index_dim=128", "at most 64 (head_dim), found 128"),
])
def test_what_can_be_seen_before_the_work_is_seen_before_it(tmp_path, setting, says):
    out = tmp_path / "out"
    refused(convert(out, setting, code=1), says)
    assert not out.exists() or not any((out / name).exists() for name in TRAINED)


def test_a_warm_up_longer_than_the_training(tmp_path):
    errors = convert(tmp_path / "out", "train.warmup=5000", subcommand="profile").stderr
    assert "train.warmup = 5000 is not below train.steps = 6" in errors


def test_no_stage_2_in_the_recipe(out):
    refused(convert(out, subcommand="distill", code=1), "distill.steps is 0")


def test_a_loss_that_is_not_finite(tmp_path):
    out = tmp_path / "out"
    for setting, says in [("train.save_every=50", "no state was saved yet"), ("train.save_every=1", "stays in")]:
        convert(out, setting, "train.learning_rate=1e30", subcommand="profile")
        refused(convert(out, setting, "train.learning_rate=1e30", subcommand="train", code=1), "not finite", says)


@pytest.mark.parametrize("file", ["state.safetensors", "state.json"])
def test_a_corrupt_state_names_the_way_out(out, file):
    record = json.loads((out / "manifest.json").read_text())
    record["stages"]["train"]["state"] = "running"
    (out / "manifest.json").write_text(json.dumps(record))
    state = out / "train" / "state"
    (state / file).write_bytes((state / file).read_bytes()[:100])
    refused(convert(out, subcommand="train", code=1), file, f"remove {state} to begin this stage anew")
    shutil.rmtree(state)
    assert convert(out, subcommand="train").returncode == 0


def test_what_was_set_aside_is_put_back_after_a_kill(out):
    """As a process leaves it that was killed before its new run saved anything."""
    before = contents(out / "train")
    record = json.loads((out / "manifest.json").read_text())
    record["stages"]["train.before"] = record["stages"]["train"]
    record["stages"]["train"] = {**record["stages"]["train"], "state": "running", "outputs": {}}
    (out / "manifest.json").write_text(json.dumps(record))
    (out / "train").rename(out / "train.before")
    (out / "train").mkdir()
    assert "train: done before" in convert(out, subcommand="train").stderr
    assert contents(out / "train") == before and not (out / "train.before").exists()
    assert set(manifest(out)) == set(TRAINED)


def test_prompts_and_responses_are_packed_whatever_the_recipe_says(tmp_path):
    """README: --text brings them, and every bundled recipe crops running text."""
    chats = tmp_path / "chats.jsonl"
    chats.write_text("".join(json.dumps({"prompt": f"{part}. " + BOOK * 15, "response": f" It was {part}."}) + "\n"
                             for part in range(60)))
    for stage in TRAINED:
        process = run(*command(tmp_path / "out", "data.held_out_documents=30", subcommand=stage), "--text", chats)
        assert process.returncode == 0, process.stderr


def test_a_head_plan_of_another_model(out):
    plan = out / "profile" / "head_plan.json"
    plan.write_text(plan.read_text().replace('"name": "nano"', '"name": "another"'))
    before = contents(out)
    refused(convert(out, subcommand="train", code=1), "profile/head_plan.json", "not what profile wrote",
            "run `retrosparse profile` again")
    assert contents(out) == before


def test_a_damaged_log_of_finished_training(out):
    """It is told where it lies and what to remove; then everything is as it was."""
    log, index = out / "train" / "metrics.jsonl", (out / "train" / "indexer.safetensors").read_bytes()
    whole = log.read_text()
    log.write_text(whole.replace('"step":3', '"step":8'))
    done = manifest(out)
    refused(convert(out, subcommand="train", code=1), "train/metrics.jsonl", "step 3 in line 4", "train/state")
    assert manifest(out) == done
    shutil.rmtree(out / "train" / "state")
    assert convert(out, subcommand="train").returncode == 0
    assert (out / "train" / "indexer.safetensors").read_bytes() == index


def test_files_of_others_in_an_export_are_not_replaced(tmp_path):
    """Neither where settings change, nor where an export is mended; in the adapter's folder as little."""
    out = tmp_path / "out"
    convert(out, "validate.speed_tokens=0")
    (out / "adapter" / "model-notes").mkdir()
    refused(convert(out, "validate.speed_tokens=0", "export.adapter=false", code=1), "model-notes", "move it away")
    (out / "adapter" / "model-notes").rmdir()
    (out / "model" / "mine.txt").write_text("mine")
    shutil.rmtree(out / "adapter")
    refused(convert(out, "validate.speed_tokens=0", code=1), "mine.txt", "move it away")
    stopped = convert(out, "validate.speed_tokens=0", "selection.tail_block=4", code=1)
    refused(stopped, "mine.txt", "move it away")
    assert "== calibrate" not in stopped.stderr, "found only after the work"
    (out / "model" / "mine.txt").rename(tmp_path / "mine.txt")
    assert convert(out, "validate.speed_tokens=0", "selection.tail_block=4").returncode == 0


@pytest.mark.parametrize("settings, says", [
    (["validate.tasks=[niah32]"], ["validate.tasks", "held out"]),
    (["data.tasks=[niah32]"], ["data.tasks", "train"]),
    (["plan.ratio=0"], ["plan.ratio"]),
    (["distill.steps=2", "distill.teacher_top_k=5000"], ["distill.teacher_top_k", "4096"]),
])
def test_what_cannot_work_is_said_before_anything_runs(tmp_path, settings, says):
    refused(convert(tmp_path / "out", "context_length=256", *settings, code=1), *says)
    assert not (tmp_path / "out" / "profile").exists()
