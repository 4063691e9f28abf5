"""A conversion that is killed again and again, at random moments of any stage, ends in the bits of one that was not."""

import json
import random
import shutil
import subprocess
import time

import pytest

from test_convert import ENVIRONMENT, command, convert

KILLS = 20
# Stage 2 and the tiles take part too; how fast the model generates differs from run to run.
WHOLE = ["distill.steps=3", "distill.documents_per_step=1", "distill.label_rows=16", "distill.save_every=1",
         "prefill.mode=tiles", "calibrate.tile_shares=[0.05, 0.02]", "validate.speed_tokens=0"]


def written(out):
    """Every file of a conversion but those that say when and how long."""
    said = {}
    for path in sorted(out.rglob("*")):
        name = str(path.relative_to(out))
        if path.is_dir() or name == "manifest.json" or name.startswith("report/"):
            continue
        said[name] = path.read_bytes()
        if path.name == "metrics.jsonl":
            lines = [json.loads(line) for line in said[name].splitlines()]
            said[name] = [{key: value for key, value in line.items() if key != "seconds"} for line in lines]
    return said


@pytest.mark.slow
def test_killed_at_random_moments_it_ends_in_the_same_bits(tmp_path):
    whole, out = tmp_path / "whole", tmp_path / "out"
    start = time.monotonic()
    convert(whole, *WHOLE)
    duration = time.monotonic() - start
    expected = written(whole)
    moments, kills, ends, stages = random.Random(5), 0, 0, set()
    while kills < KILLS or ends == 0:
        assert ends < 2 * KILLS
        process = subprocess.Popen(command(out, *WHOLE), stderr=subprocess.PIPE, text=True, env=ENVIRONMENT)
        try:
            process.communicate(timeout=moments.uniform(0.02, 0.5) * duration if kills < KILLS else None)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            kills += 1
            manifest = out / "manifest.json"
            stages.add(len(json.loads(manifest.read_text())["stages"]) if manifest.exists() else 0)
            continue
        assert process.returncode == 0
        ends += 1
        got = written(out)
        assert got.keys() == expected.keys()
        assert [name for name in expected if got[name] != expected[name]] == []
        shutil.rmtree(out)
    assert len(stages) > 3, "the kills should meet several stages"
