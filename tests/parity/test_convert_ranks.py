"""convert by several processes, with the variables that torchrun gives to each of them."""

import functools
import json
import signal
import socket
import subprocess

from safetensors.torch import load_file

from cli_checks import full_disk
from test_convert import ENVIRONMENT, STAGES, command, convert, manifest
from test_convert_bad_input import refused

TWO_DOCUMENTS = "train.documents_per_step=2"


def started(count, command, **options):
    """The command in `count` processes."""
    with socket.socket() as server:
        server.bind(("localhost", 0))
        port = server.getsockname()[1]
    launch = {"WORLD_SIZE": str(count), "MASTER_ADDR": "localhost", "MASTER_PORT": str(port)}
    return [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                             env=ENVIRONMENT | launch | {"RANK": str(rank), "LOCAL_RANK": str(rank)}, **options)
            for rank in range(count)]


def ended(processes):
    """The same processes, each with what it wrote."""
    for process in processes:
        try:
            process.stdout, process.stderr = process.communicate(timeout=120)
        finally:
            process.kill()
    return processes


def ranks(count, command, **options):
    return ended(started(count, command, **options))


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


def test_stopped_while_the_first_works_alone(tmp_path):
    """Ctrl-C reaches all processes of a terminal, also those that wait for the first one to calibrate."""
    out = tmp_path / "out"
    run = command(out, TWO_DOCUMENTS)
    processes = started(2, run)
    try:
        heard = []
        while not (heard and heard[-1].startswith("== calibrate")):
            line = processes[0].stderr.readline()
            assert line, "".join(heard)
            heard.append(line)
        for process in processes:
            process.send_signal(signal.SIGINT)
    finally:
        first, second = ended(processes)
    assert first.returncode == 130
    assert "calibrate: stopped; the same command goes on with this stage" in first.stderr
    assert second.returncode in (130, -signal.SIGINT)  # before it waits, or while it does
    assert manifest(out)["calibrate"]["state"] != "done"

    first, second = ranks(2, run)
    assert first.returncode == 0 and second.returncode == 0, first.stderr + second.stderr
    assert "train: done before" in first.stderr and "== calibrate" in first.stderr
