"""convert by several processes, with the variables that torchrun gives to each of them."""

import functools
import json
import socket
import subprocess

from safetensors.torch import load_file

from cli_checks import full_disk
from test_convert import ENVIRONMENT, STAGES, command, convert, manifest
from test_convert_bad_input import refused

TWO_DOCUMENTS = "train.documents_per_step=2"


def ranks(count, command, **options):
    """Runs the command in `count` processes and returns them, each with what it wrote."""
    with socket.socket() as server:
        server.bind(("localhost", 0))
        port = server.getsockname()[1]
    launch = {"WORLD_SIZE": str(count), "MASTER_ADDR": "localhost", "MASTER_PORT": str(port)}
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                  env=ENVIRONMENT | launch | {"RANK": str(rank), "LOCAL_RANK": str(rank)}, **options)
                 for rank in range(count)]
    for process in processes:
        try:
            process.stdout, process.stderr = process.communicate(timeout=120)
        finally:
            process.kill()
    return processes


def test_two_ranks_train_what_one_does(tmp_path):
    both, one = tmp_path / "both", tmp_path / "one"
    first, second = ranks(2, command(both, TWO_DOCUMENTS, "distill.steps=1", "distill.documents_per_step=2",
                                     "calibrate.samples=1"))
    assert first.returncode == 0 and second.returncode == 0, first.stderr + second.stderr
    assert "report.html" in first.stdout and "== train" in first.stderr
    assert second.stdout == "" and second.stderr == ""
    assert all(record["state"] == "done" for record in manifest(both).values())
    assert set(manifest(both)) == {*STAGES, "distill", "recalibrate"}
    report = json.loads((both / "report" / "report.json").read_text())
    assert report["environment"]["processes"] == 2

    for stage in ("profile", "train"):
        convert(one, TWO_DOCUMENTS, subcommand=stage)
    assert (both / "profile" / "head_plan.json").read_bytes() == (one / "profile" / "head_plan.json").read_bytes()
    ours, expected = (load_file(out / "train" / "indexer.safetensors") for out in (both, one))
    assert ours.keys() == expected.keys()
    for name, tensor in expected.items():
        assert (ours[name] - tensor).abs().max() <= 1e-4 * tensor.abs().max(), name


def test_documents_that_cannot_be_shared(tmp_path):
    for process in ranks(2, command(tmp_path / "out", "train.documents_per_step=3")):
        refused(process, "train.documents_per_step", "a multiple of the 2 processes, found 3")
        assert len(process.stderr.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_when_one_fails_the_others_do_not_wait(tmp_path):
    first, second = ranks(2, command(tmp_path / "out", TWO_DOCUMENTS), restore_signals=False,
                          preexec_fn=functools.partial(full_disk, 100))
    refused(first, "cannot write")
    refused(second, "failed on rank 1 of 2")
    assert len(second.stderr.splitlines()) == 1
