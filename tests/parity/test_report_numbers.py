"""What report.json says about a conversion, beside the files that the conversion wrote."""

import json

import pytest

from conftest import NANO, ROOT

RECIPE = ROOT / "recipes" / "quickstart-nano.yaml"
SETTINGS = {
    "context_length": 768, "plan.window": 96, "profile.documents": 1, "train.steps": 2, "train.warmup": 1,
    "train.rows_per_document": 16, "data.tasks": "[niah1, niah8, mq, mv, kv, vt, copy]", "calibrate.samples": 1,
    "calibrate.tasks": "[kv]", "calibrate.min_tokens": "[16]", "calibrate.max_tokens": "[64]",
    "calibrate.p": "[0.9]", "calibrate.kl_target": 0.5, "selection.min_tokens": 16, "selection.max_tokens": 64,
    "validate.samples": 2, "validate.tasks": "[kv]", "validate.speed_tokens": 0,
}


@pytest.fixture(scope="module")
def convert(retrosparse):
    def run(out, **changes):
        settings = {**SETTINGS, **{key.replace("__", "."): value for key, value in changes.items()}}
        process = retrosparse("convert", "--model", NANO, "--recipe", RECIPE, "--out", out, "--device", "cpu",
                              *(f"--set={key}={value}" for key, value in settings.items()))
        return json.loads((out / "report" / "report.json").read_text()), process

    return run


@pytest.fixture(scope="module")
def converted(convert, tmp_path_factory):
    out = tmp_path_factory.mktemp("numbers") / "out"
    report, process = convert(out)
    return out, report, process


def test_the_gates_are_those_that_are_written(converted):
    out, report, _ = converted
    selection, written = report["selection"], json.loads((out / "calibrate" / "gates.json").read_text())["retrosparse"]
    expected = [{"layer": int(layer), "head": head, **gate} for layer, heads in written["retrieval_heads"].items()
                for head, gate in zip(heads, written["gates"][layer], strict=True)]
    assert selection["gates"] == expected
    chosen = selection["chosen"]
    for key in ("p", "min_tokens", "max_tokens"):
        values = [gate[key] for gate in expected]
        assert chosen[key] == min(values)
        assert chosen.get(f"most_{key}", chosen[key]) == max(values)
    # So loose a target lets some heads have less: the ranges are put to the test.
    assert chosen["by_head"] and chosen["min_tokens"] < chosen["most_min_tokens"]


def test_the_tail_is_compared_with_the_same_rule_without_it(converted):
    _, report, _ = converted
    own = [point for point in report["selection"]["points"] if point["rule"] == "top_p" and not point["by_head"]]
    same = [(point["p"], point["min_tokens"], point["max_tokens"]) for point in own if "tail_block" not in point]
    assert len(same) == 1
    assert same[0] in [(point["p"], point["min_tokens"], point["max_tokens"]) for point in own if "tail_block" in point]


def test_far_tokens_are_counted_where_they_were_read(converted):
    _, report, _ = converted
    validation = report["validation"]
    sparse = validation["variants"]["sparse"]
    assert 0 < sparse["far_tokens"] < sparse["far_available"] < 768 - 96
    assert validation["variants"]["paper"]["far_available"] == sparse["far_available"]
    assert "far_available" not in validation["variants"]["dense"]
    assert validation["samples"] == 2 and validation["rows"] == validation["tasks"][0]["rows"]


def test_the_console_says_what_became_of_the_target(converted):
    _, report, process = converted
    kl = report["validation"]["variants"]["sparse"]["kl_plan"]
    state = "met" if kl <= 0.5 else "missed"
    assert f"KL target x1000 500.00: {state} ({1000 * kl:.2f})" in process.stderr


def test_the_environment_names_what_ran(converted):
    _, report, _ = converted
    environment = report["environment"]
    assert environment["device"] == "cpu" and environment["kernels"] == "off" and environment["threads"] >= 1


def test_no_accuracy_where_nothing_was_asked(convert, converted, tmp_path):
    report, process = convert(tmp_path / "out", validate__tasks="[nll]", validate__samples=1,
                              calibrate__enabled="false")
    for variant in report["validation"]["variants"].values():
        assert "accuracy" not in variant and variant["nll"] > 0
    assert report["validation"]["rows"] > 0 and report["validation"]["tasks"] == []
    assert "0.0%" not in process.stdout and "KL target" not in process.stderr
