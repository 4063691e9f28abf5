"""plan --recipe: what it predicts of each stage, beside what a conversion measured."""

import json
import os
import subprocess

import pytest

from conftest import BUILD, NANO, ROOT

RECIPE = ROOT / "recipes" / "quickstart-nano.yaml"
CONTEXT = 1024
# Every stage, small enough for a minute.
SETTINGS = [f"context_length={CONTEXT}", "plan.window=64", "profile.documents=2", "train.steps=3",
            "train.rows_per_document=32", "calibrate.tasks=[niah1, kv]", "calibrate.samples=1", "calibrate.p=[0.9]",
            "calibrate.min_tokens=[16]", "calibrate.max_tokens=[64]", "calibrate.head_rounds=0", "distill.steps=2",
            "distill.documents_per_step=2", "distill.label_rows=32", "validate.tasks=[niah1, nll]",
            "validate.samples=1", "data.tasks=[niah1, vt]"]
STAGES = ["profile", "train", "calibrate", "distill", "recalibrate", "export", "validate", "report"]
# Of a stage's resident memory what cannot be counted is small but for the allocator, which keeps what was freed.
BOUND = 0.2


def changes(settings):
    return [word for setting in settings for word in ("--set", setting)]


def planned(retrosparse, *arguments, settings=SETTINGS):
    shown = retrosparse("plan", "--model", NANO, "--recipe", RECIPE, "--json", *changes(settings), *arguments).stdout
    return json.loads(shown)


def by_name(plan):
    return {stage["name"]: stage for stage in plan["stages"]}


@pytest.fixture(scope="module")
def converted(tmp_path_factory):
    out = tmp_path_factory.mktemp("planned") / "out"
    process = subprocess.run(
        [BUILD / "retrosparse", "convert", "--model", NANO, "--recipe", RECIPE, "--out", out, "--device", "cpu",
         "--threads", "1", *changes(SETTINGS)],
        capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert process.returncode == 0, process.stderr
    return out


@pytest.fixture(scope="module")
def measured(converted):
    return json.loads((converted / "manifest.json").read_text())["stages"]


def test_peak_memory_is_as_predicted(converted, measured, retrosparse):
    stages = by_name(planned(retrosparse, "--head-plan", converted / "profile" / "head_plan.json"))
    assert list(stages) == STAGES
    for name, stage in stages.items():
        assert stage["peak_bytes"] == pytest.approx(measured[name]["peak_bytes"], rel=BOUND), name
        if name != "profile":  # which heads retrieve was not known then
            assert measured[name]["predicted_peak_bytes"] == pytest.approx(stage["peak_bytes"], rel=1e-9), name


def test_the_report_shows_the_prediction(converted, measured):
    report = json.loads((converted / "report" / "report.json").read_text())
    assert [stage["name"] for stage in report["stages"]] == STAGES[:-1]  # it cannot know its own time
    for stage in report["stages"]:
        for key in ("seconds", "peak_bytes", "predicted_seconds", "predicted_peak_bytes"):
            assert stage[key] == measured[stage["name"]][key], (stage["name"], key)


def test_tokens_are_those_that_went_through(converted, retrosparse):
    stages = by_name(planned(retrosparse))

    def lines(stage):
        return len((converted / stage / "metrics.jsonl").read_text().splitlines())

    def results(stage, section):
        return json.loads((converted / stage / "results.json").read_text())[section]

    answers = len(list((converted / "distill" / "teacher").iterdir()))
    samples = results("calibrate", "selection")["samples"]
    assert stages["profile"]["tokens"] == 2 * CONTEXT
    assert stages["train"]["tokens"] == (lines("train") + 2 * 9) * CONTEXT  # and 9 to measure with, before and after
    assert stages["calibrate"]["tokens"] == 2 * samples * CONTEXT  # the rivals, and the grid
    # The dense model's answers and the pass with gradients; before and after, dense and sparse.
    assert lines("distill") * 2 == answers
    assert stages["distill"]["tokens"] == (2 * answers + 2 * 2 * samples) * CONTEXT
    speed = results("validate", "validation")["speed"]
    assert stages["validate"]["tokens"] == (2 * 2 + 2 * speed["runs"]) * CONTEXT


def test_json_has_what_the_text_has(retrosparse):
    plan = planned(retrosparse, "--gpu", "H200")
    assert plan["machine"]["name"] == "H200" and plan["dtype"] == "bfloat16" and plan["heads"] == "assumed"
    assert sum(map(len, plan["retrieval_heads"])) == round(0.15 * 24)
    assert [stage["name"] for stage in plan["stages"]] == STAGES
    for stage in plan["stages"]:
        assert set(stage) == {"name", "tokens", "flops", "bytes", "launches", "seconds", "peak_bytes", "peak_at", "fits",
                              "depends_on", "terms"}
        assert sum(term["bytes"] for term in stage["terms"]) == pytest.approx(stage["peak_bytes"])
        assert stage["fits"]
    for key in ("tokens", "flops", "seconds"):
        assert plan["total"][key] == pytest.approx(sum(stage[key] for stage in plan["stages"]))
    assert plan["total"]["peak_bytes"] == max(stage["peak_bytes"] for stage in plan["stages"])
    text = retrosparse("plan", "--model", NANO, "--recipe", RECIPE, "--gpu", "H200", *changes(SETTINGS)).stdout
    for name in STAGES:
        assert f"\n  {name} " in text


def test_without_a_gpu_it_is_this_cpu_with_the_table_beside(retrosparse):
    plan = planned(retrosparse)
    assert plan["machine"]["name"].startswith("this CPU") and plan["dtype"] == "float32"
    assert "H200" in [gpu["name"] for gpu in plan["gpus"]]


def test_says_what_does_not_fit(retrosparse, tmp_path):
    """Eight billion parameters: float32 weights, gradients and AdamW's moments alone are 128 GB."""
    config = {**json.loads((NANO / "config.json").read_text()), "hidden_size": 4096, "intermediate_size": 14336,
              "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128,
              "vocab_size": 128256, "max_position_embeddings": 131072}
    (tmp_path / "config.json").write_text(json.dumps(config))
    recipe = ["--recipe", ROOT / "recipes" / "llama-3.1-8b.yaml", "--gpu", "H100", "--set",
              "distill.steps=600"]
    text = retrosparse("plan", "--model", tmp_path, *recipe).stdout
    plan = json.loads(retrosparse("plan", "--model", tmp_path, *recipe, "--json").stdout)
    assert "distill does not fit" in text and "profile does not fit" not in text
    assert by_name(plan)["profile"]["fits"] and not by_name(plan)["distill"]["fits"] and not plan["total"]["fits"]


@pytest.mark.parametrize("arguments, says", [
    (["--set", "context_length=8k"], "context_length"),
    (["--set", "train.stepz=1"], "did you mean 'steps'"),
    (["--set", "context_length=1000000"], "at most 8192"),
    (["--head-plan", NANO / "config.json"], "config.json"),
])
def test_bad_input(retrosparse, arguments, says):
    process = retrosparse("plan", "--model", NANO, "--recipe", RECIPE, *arguments, check=False)
    assert process.returncode == 1 and says in process.stderr and process.stderr.count("\n") == 1


def test_settings_need_a_recipe(retrosparse):
    process = retrosparse("plan", NANO, "--set", "train.steps=1", check=False)
    assert process.returncode == 2 and "--recipe" in process.stderr
