"""What the tests of the command line share."""

import json
import resource
import shutil
import struct

import pytest

from conftest import NANO

ERROR, USAGE, INTERRUPTED = 1, 2, 130
PROMPT = "The special magic number is"


def fails(retrosparse, *arguments, code=ERROR, says=(), **options):
    """The command fails with one line on stderr, which contains all of `says`, and leaves nothing on stdout."""
    process = retrosparse(*arguments, check=False, **options)
    assert process.returncode == code, process.stderr
    lines = process.stderr.splitlines()
    assert len(lines) == 1 and lines[0].startswith("retrosparse: error: "), process.stderr
    for part in [says] if isinstance(says, str) else says:
        assert part in lines[0]
    assert process.stdout == ""
    return process


def generate_fails(retrosparse, model, *arguments, **options):
    return fails(retrosparse, "generate", "--model", model, "--prompt", PROMPT, *arguments, **options)


def full_disk(largest_file=100_000):
    """What a full disk looks like to a writer: no file may grow beyond these bytes. For preexec_fn."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))


@pytest.fixture
def model(tmp_path):
    """A copy of nano that a test may break."""
    return shutil.copytree(NANO, tmp_path / "model")


def edit_json(path, **changes):
    """Sets keys; a value of `...` removes the key."""
    content = json.loads(path.read_text())
    for key, value in changes.items():
        content.pop(key, None)
        if value is not ...:
            content[key] = value
    path.write_text(json.dumps(content))


def header_of(path):
    data = path.read_bytes()
    length, = struct.unpack("<Q", data[:8])
    return json.loads(data[8:8 + length]), data[8 + length:]


def write_raw(path, header, data):
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def break_truncated(path):
    path.write_bytes(path.read_bytes()[:-1000])
