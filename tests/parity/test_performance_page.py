"""The tables of docs/performance.md say what the benchmark's files say."""

import importlib.util

import pytest

from conftest import ROOT


@pytest.fixture
def tables():
    spec = importlib.util.spec_from_file_location("kernel_tables", ROOT / "tools" / "benchmarks" / "kernel_tables.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_page_is_up_to_date(tables):
    tables.main(check=True)


def test_another_number_is_found(tables, tmp_path, monkeypatch):
    page = tmp_path / "performance.md"
    speed_up = f"{tables.lines('decode')[0]['speed_up']:.2f}"
    page.write_text(tables.PAGE.read_text().replace(f" {speed_up} ", " 9.99 "))
    monkeypatch.setattr(tables, "PAGE", page)
    with pytest.raises(SystemExit, match="differ from kernels/results"):
        tables.main(check=True)
    tables.main(check=False)
    assert page.read_text() == (tables.ROOT / "docs" / "performance.md").read_text()
