"""What the parity tests share: where the build, the example model and (in our own workplace) the larger models are."""

import json
import os
import subprocess
import tempfile
from pathlib import Path

# Where transformers copies the code of checkpoints that bring their own; read when it is imported.
MODULES = tempfile.TemporaryDirectory()
os.environ["HF_MODULES_CACHE"] = MODULES.name

import pytest  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("RETROSPARSE_BUILD", ROOT / "build"))
SHARED = ROOT.parent / "shared"
NANO = ROOT / "examples" / "nano"


def pytest_configure(config):
    config.addinivalue_line("markers", "slow: takes minutes; tools/test --fast leaves it out")


def shared(path: str) -> Path:
    """A file of ../shared; the test is skipped where that folder is absent."""
    if not (SHARED / path).exists():
        pytest.skip(f"needs ../shared/{path}")
    return SHARED / path


@pytest.fixture(scope="session")
def retrosparse():
    """Runs the program: retrosparse("inspect", folder) returns the finished process."""
    binary = BUILD / "retrosparse"
    if not binary.exists():
        pytest.fail(f"{binary} is not built")

    def run(*arguments, check=True, **options):
        process = subprocess.run([str(binary), *map(str, arguments)], capture_output=True, text=True, **options)
        if check and process.returncode != 0:
            pytest.fail(f"retrosparse {' '.join(map(str, arguments))}\n{process.stdout}\n{process.stderr}")
        return process

    return run


def write_ids(path: Path, ids) -> Path:
    path.write_text(json.dumps(list(map(int, ids))))
    return path
