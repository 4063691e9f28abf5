"""convert on a disk that fills up in one stage after the other: each says so, and with room again it goes on."""

import json
import resource
import subprocess
import time

from cli_checks import full_disk
from test_convert import ENVIRONMENT, command, convert
from test_convert_bad_input import refused

SETTINGS = ["distill.steps=1", "distill.documents_per_step=1", "calibrate.samples=1"]
STAGES = ["profile", "train", "calibrate", "distill", "recalibrate", "export", "validate", "report"]
ROOM = {"export": 100_000, "report": 50_000}  # too quick to fill the disk under them: the largest file that fits


def states(out):
    path = out / "manifest.json"
    stages = json.loads(path.read_text())["stages"] if path.exists() else {}
    return {name: record["state"] for name, record in stages.items()}


def convert_with_a_full_disk(out, stage):
    """Converts until the disk has no room for what a stage writes."""
    process = subprocess.Popen(command(out, *SETTINGS), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                               env=ENVIRONMENT, restore_signals=False,
                               preexec_fn=lambda: full_disk(ROOM.get(stage, resource.RLIM_INFINITY)))
    deadline = time.monotonic() + 60
    while stage not in ROOM and states(out).get(stage) != "running":
        assert process.poll() is None and time.monotonic() < deadline, stage
        time.sleep(0.002)
    if stage not in ROOM:
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (0, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
    process.stdout, process.stderr = process.communicate(timeout=60)
    return process


def test_a_disk_that_fills_up_in_each_stage(tmp_path):
    out = tmp_path / "out"
    for done, stage in enumerate(STAGES):
        folder = out / ("model" if stage == "export" else stage)
        process = convert_with_a_full_disk(out, stage)
        refused(process, str(folder), "cannot write")
        assert states(out) == {name: "done" for name in STAGES[:done]} | {stage: "running"}
    convert(out, *SETTINGS)
    assert states(out) == {name: "done" for name in STAGES}
    assert len((out / "train" / "metrics.jsonl").read_text().splitlines()) == 6
    assert [path for path in out.rglob("*") if ".retrosparse-" in path.name] == []
    assert (out / "report" / "report.html").exists()
