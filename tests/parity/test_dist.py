"""Process groups under the real torchrun: it serves the store itself and starts processes again after a failure."""

import os
import subprocess
import sys

import pytest

from conftest import BUILD


def torchrun(processes, *arguments, device="cpu", options=()):
    worker = BUILD / "tests" / "dist" / "dist_worker"
    if not worker.exists():
        pytest.fail(f"{worker} is not built")
    command = [sys.executable, "-m", "torch.distributed.run", "--no-python", f"--nproc-per-node={processes}"]
    command += ["--rdzv-backend=c10d", "--rdzv-endpoint=localhost:0", *options, str(worker), device, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=240, env=os.environ | {"OMP_NUM_THREADS": "1"})


def expect_all_well(process, processes, device="cpu"):
    assert process.returncode == 0, process.stdout + process.stderr
    lines = [line for line in process.stdout.splitlines() if line.startswith("rank ")]
    devices = ["cpu"] * processes if device == "cpu" else [f"cuda:{rank}" for rank in range(processes)]
    assert sorted(lines) == [f"rank {rank} of {processes} on {devices[rank]}: ok" for rank in range(processes)]


@pytest.mark.parametrize("processes", [2, 3])
def test_collectives(processes):
    expect_all_well(torchrun(processes, "collectives"), processes)


def test_processes_started_again_meet_again():
    process = torchrun(2, "first-start-fails", options=["--max-restarts=1"])
    assert "this process fails at its first start" in process.stderr
    expect_all_well(process, 2)


def test_collectives_between_gpus():
    import torch

    if torch.cuda.device_count() < 2:
        pytest.skip("fewer than two CUDA devices on this machine")
    expect_all_well(torchrun(2, "collectives", device="cuda"), 2, device="cuda")
