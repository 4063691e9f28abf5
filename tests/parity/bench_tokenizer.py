"""Encoding speed on one core beside the `tokenizers` package, in processor time: python tests/parity/bench_tokenizer.py

Ours encodes a whole book file as one text; the package, which slows down on long texts, gets parts of 2,000 characters.
Each figure is the best of three rounds.
"""

import os

os.environ["RAYON_NUM_THREADS"] = "1"  # before the package starts its threads

import json
import lzma
import subprocess
import tempfile
import time
from pathlib import Path

import tokenizers
from conftest import BUILD, NANO, SHARED
from test_tokenizer import ARCHIVES, unpack

ROUNDS = 3


def ours(file: Path, text: Path):
    requests = [{"file": str(file)}, {"bench": str(text), "rounds": ROUNDS}]
    lines = "".join(json.dumps(request) + "\n" for request in requests)
    tool = BUILD / "tests" / "text" / "tokenize_jsonl"
    output = subprocess.run([tool], input=lines, capture_output=True, text=True, check=True).stdout
    loaded, encoded = map(json.loads, output.splitlines())
    return loaded["seconds"], encoded["seconds"]


def package(file: Path, text: str):
    begin = time.process_time()
    tokenizer = tokenizers.Tokenizer.from_file(str(file))
    loading = time.process_time() - begin
    tokenizer.no_truncation()
    parts = [text[begin : begin + 2000] for begin in range(0, len(text), 2000)]
    encoding = []
    for _ in range(ROUNDS):
        begin = time.process_time()
        tokenizer.encode_batch_fast(parts)
        encoding.append(time.process_time() - begin)
    return loading, min(encoding)


def main():
    shared_books = SHARED / "text" / "books.txt.xz"
    books = shared_books if shared_books.exists() else NANO.parent / "text" / "books.txt.xz"
    with tempfile.TemporaryDirectory() as folder:
        text = Path(folder) / "books.txt"
        text.write_bytes(lzma.open(books).read())
        sample = text.read_text(encoding="utf-8")[:2_000_000]
        files = {"nano": NANO / "tokenizer.json"}
        if (SHARED / "golden").exists():
            for name, archived in ARCHIVES.items():
                (Path(folder) / name).mkdir()
                files[name] = unpack(*archived, Path(folder) / name)
        print(f"{'':8} {'ours MB/s':>10} {'package MB/s':>13} {'ours loads in s':>16} {'package loads in s':>19}")
        for name, file in files.items():
            our_loading, our_encoding = ours(file, text)
            its_loading, its_encoding = package(file, sample)
            our_speed = text.stat().st_size / our_encoding / 1e6
            its_speed = len(sample.encode()) / its_encoding / 1e6
            print(f"{name:8} {our_speed:10.1f} {its_speed:13.2f} {our_loading:16.2f} {its_loading:19.2f}")


if __name__ == "__main__":
    main()
