"""Files that we write are read by the safetensors package, and the other way round."""

import json
import random
import subprocess

import pytest
import safetensors
import safetensors.torch
import torch
from conftest import BUILD

DTYPES = [
    torch.bool, torch.uint8, torch.int8, torch.float8_e4m3fn, torch.float8_e5m2, torch.float8_e4m3fnuz,
    torch.float8_e5m2fnuz, torch.int16, torch.uint16, torch.float16, torch.bfloat16, torch.int32, torch.uint32,
    torch.float32, torch.complex64, torch.float64, torch.int64, torch.uint64,
]  # fmt: skip


@pytest.fixture(scope="module")
def tool():
    binary = BUILD / "tests" / "checkpoint" / "safetensors_tool"
    if not binary.exists():
        pytest.fail(f"{binary} is not built")

    def run(*arguments):
        process = subprocess.run([str(binary), *map(str, arguments)], capture_output=True, text=True)
        assert process.returncode == 0, process.stderr
        return process.stdout.splitlines()

    return run


def all_kinds():
    generator = torch.Generator().manual_seed(0)
    tensors = {"scalar": torch.tensor(2.5), "empty": torch.zeros(0, 3), "ünïcode \"name\"\n": torch.ones(2, 1, 3)}
    for dtype in DTYPES:
        data = torch.randint(0, 2 if dtype == torch.bool else 256, (48,), dtype=torch.uint8, generator=generator)
        tensors[f"z.{dtype}"] = data.view(dtype)
    return tensors


def bits(tensor):
    return tensor.dtype, tuple(tensor.shape), bytes(tensor.contiguous().flatten().view(torch.uint8).numpy())


def same(a, b):
    return a.keys() == b.keys() and all(bits(a[name]) == bits(b[name]) for name in a)


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}, {"é\t": "\u0001\\"}])
def test_a_rewrite_of_a_reference_file_is_byte_identical(tool, tmp_path, metadata):
    safetensors.torch.save_file(all_kinds(), tmp_path / "in", metadata)
    tool("rewrite", tmp_path / "in", tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == (tmp_path / "in").read_bytes()


def test_metadata_is_kept_and_put_in_order(tool, tmp_path):
    metadata = {"z": "1", "a": "tab\t", "é": "\u0001\\"}  # the reference writes several entries in a random order
    safetensors.torch.save_file({"x": torch.ones(1)}, tmp_path / "in", metadata)
    tool("rewrite", tmp_path / "in", tmp_path / "out")
    with safetensors.safe_open(tmp_path / "out", "pt") as file:
        assert file.metadata() == metadata
    header = (tmp_path / "out").read_bytes()
    assert header.index(b'"a":') < header.index(b'"z":')


def test_a_file_in_another_order_and_without_padding_is_read(tool, tmp_path):
    header = {
        "a": {"dtype": "U8", "shape": [3], "data_offsets": [0, 3]},
        "b": {"dtype": "F32", "shape": [2], "data_offsets": [3, 11]},  # not aligned
    }
    text = json.dumps(header).encode() + b" "
    data = len(text).to_bytes(8, "little") + text + bytes(range(11))
    (tmp_path / "in").write_bytes(data)
    tool("rewrite", tmp_path / "in", tmp_path / "out")
    assert same(safetensors.torch.load_file(tmp_path / "out"), safetensors.torch.load(data))


def test_shards_are_what_the_index_says(tool, tmp_path):
    (tmp_path / "in").mkdir()
    tensors = all_kinds()
    safetensors.torch.save_file(tensors, tmp_path / "in" / "model.safetensors")
    tool("shard", tmp_path / "in", tmp_path / "out", 100)
    index = json.loads((tmp_path / "out" / "model.safetensors.index.json").read_text())
    assert index["metadata"]["total_size"] == sum(t.nbytes for t in tensors.values())
    files = set(index["weight_map"].values())
    assert files | {"model.safetensors.index.json"} == {path.name for path in (tmp_path / "out").iterdir()}
    read = {}
    for file in files:
        with safetensors.safe_open(tmp_path / "out" / file, "pt") as shard:
            assert shard.metadata() == {"format": "pt"}
            for name in shard.keys():
                assert index["weight_map"][name] == file
                read[name] = shard.get_tensor(name)
    assert same(read, tensors)
    tool("shard", tmp_path / "out", tmp_path / "again", 100)
    for path in (tmp_path / "out").iterdir():
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes()


def mutated(rng, data):
    """Changes a few bytes, mostly digits and punctuation of the header."""
    data = bytearray(data)
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(len(data) - 8 if rng.random() < 0.9 else len(data))
        kind = rng.randrange(4)
        if kind == 0:
            data[at] = rng.choice(b'0123456789-.,:[]{}"e ')
        elif kind == 1:
            del data[at]
        elif kind == 2:
            data.insert(at, rng.choice(b'0123456789-.,:[]{}"e '))
        else:
            data[at] ^= 1 << rng.randrange(8)
    return bytes(data)


def test_no_file_is_accepted_that_the_reference_refuses(tool, tmp_path):
    rng = random.Random(0)
    tensors = {"a": torch.zeros(12, dtype=torch.uint8), "b": torch.zeros(3, 4), "c": torch.zeros(0, 2)}
    original = safetensors.torch.save(tensors, {"k": "v"})
    paths, reference = [], []
    for i in range(2000):
        data = mutated(rng, original)
        length = int.from_bytes(data[:8], "little")
        if rng.random() < 0.5 and length < 1000:  # the length of the header as it should be, so that more is looked at
            data = (length + len(data) - len(original)).to_bytes(8, "little") + data[8:]
        path = tmp_path / str(i)
        path.write_bytes(data)
        paths.append(path)
        try:
            safetensors.safe_open(path, "pt").__enter__()
            reference.append("ok")
        except safetensors.SafetensorError as error:
            reference.append(str(error))
    ours = tool("check", *paths)
    assert len(ours) == len(paths)
    assert reference.count("ok") > 50
    for path, our, their in zip(paths, ours, reference):
        if our == "ok":  # json allows -0 for an integer, too
            assert their == "ok" or "`-0.0`" in their, (their, path.read_bytes())
        elif their == "ok":  # where we are stricter
            assert "given twice" in our, (our, path.read_bytes())
