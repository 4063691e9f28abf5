"""inspect of a conversion that is not exported yet: its head plan."""

import json
import shutil

import pytest

from cli_checks import edit_json, fails
from test_convert import convert

NUM_LAYERS, NUM_HEADS = 6, 4


@pytest.fixture(scope="module")
def profiled(tmp_path_factory):
    out = tmp_path_factory.mktemp("profiled") / "out"
    convert(out, "profile.documents=2", subcommand="profile")
    return out


@pytest.fixture
def out(profiled, tmp_path):
    """A copy that a test may break."""
    return shutil.copytree(profiled, tmp_path / "out")


def stored(out):
    return json.loads((out / "profile" / "head_plan.json").read_text())


def test_all_three_paths_show_the_stored_plan(retrosparse, profiled):
    expected = {key: stored(profiled)[key] for key in ("model", "profile")}
    texts = set()
    for path in (profiled, profiled / "profile", f"{profiled}/profile/", profiled / "profile" / "head_plan.json"):
        assert json.loads(retrosparse("inspect", path, "--json").stdout) == expected
        name, *lines = retrosparse("inspect", path).stdout.splitlines()
        assert name.endswith("profile/head_plan.json")
        texts.add("\n".join(lines))
    assert len(texts) == 1


def test_the_table_has_the_best_heads_in_order(retrosparse, profiled):
    profile = stored(profiled)["profile"]
    ranked = sorted(((-profile["mean"][layer][head], layer, head) for layer in range(NUM_LAYERS)
                     for head in range(NUM_HEADS)))[:16]
    expected = [[str(layer), str(head), f"{-score:.4f}", f"{profile['spread'][layer][head]:.4f}",
                 "yes" if head in profile["retrieval_heads"][layer] else "no"] for score, layer, head in ranked]
    text = retrosparse("inspect", profiled).stdout
    rows = [line.split() for line in text.splitlines()]
    assert rows[-16:] == expected
    assert [row[4] for row in expected].count("yes") == 4  # 15% of 24
    assert "4 of 24" in text and "query_head, ratio 0.15" in text and "2 documents of 768 tokens" in text
    assert "first 4 tokens and the latest 64" in text and f"{profile['stability']:.3f} of the best heads" in text
    (_, layer, head), (_, other_layer, other) = ranked[3], ranked[4]
    assert f"({layer}.{head}), highest" in text and f"({other_layer}.{other})\n" in text


def test_a_conversion_without_a_profile(retrosparse, out):
    plan = out / "profile" / "head_plan.json"
    plan.unlink()
    for path in (out, out / "profile"):
        fails(retrosparse, "inspect", path, says=[str(path), "not chosen its retrieval heads yet", str(plan)])
    fails(retrosparse, "inspect", plan, says=str(plan))
    plan.parent.rmdir()
    fails(retrosparse, "inspect", out, says=[str(out), "not chosen its retrieval heads yet"])


def test_a_damaged_plan(retrosparse, out):
    plan = out / "profile" / "head_plan.json"
    profile = stored(out)["profile"]
    for broken, says in ((..., "profile"), ({**profile, "spread": profile["spread"][1:]}, "profile.spread"),
                         ({**profile, "retrieval_heads": [[NUM_HEADS]] * NUM_LAYERS}, "profile.retrieval_heads[0]"),
                         ({**profile, "windw": 1}, "did you mean 'window'")):
        edit_json(plan, profile=broken)
        fails(retrosparse, "inspect", out, says=[str(plan), says])
    plan.write_text("{")
    fails(retrosparse, "inspect", out, says=str(plan))


def test_scores_that_are_no_numbers_come_last(retrosparse, out):
    profile = stored(out)["profile"]
    profile["mean"][5][0] = None
    edit_json(out / "profile" / "head_plan.json", profile=profile)
    text = retrosparse("inspect", out).stdout
    assert not any(line.split()[:2] == ["5", "0"] for line in text.splitlines())
    assert json.loads(retrosparse("inspect", out, "--json").stdout)["profile"]["mean"][5][0] is None
