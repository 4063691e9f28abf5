"""Our tokenizer against the `tokenizers` package: the same ids, the same text back."""

import lzma
import tarfile
from pathlib import Path

import pytest
import tokenizers
from conftest import NANO, shared
from tokenizer_checks import ask, assert_equal_ids, texts  # noqa: F401 (a fixture)

ARCHIVES = {  # in ../shared/golden
    "qwen2": ("tokenizers-hf.tar.xz", "qwen2/tokenizer.json"),
    "llama3": ("tokenizers-hf.tar.xz", "llama3/tokenizer.json"),
    "gpt2": ("tokenizers.tar.xz", "./tokenizer-gpt2/tokenizer.json"),
}
GOLDEN = {"qwen2": "qwen2", "llama3": "llama-bpe", "gpt2": "gpt-2"}


def unpack(archive, member, folder) -> Path:
    target = folder / Path(member).name
    with tarfile.open(shared(f"golden/{archive}")) as tar:
        target.write_bytes(tar.extractfile(member).read())
    return target


@pytest.fixture(scope="module", params=["nano", *ARCHIVES])
def tokenizer(request, tmp_path_factory):
    """(name, tokenizer.json, the package's tokenizer of it)."""
    name = request.param
    file = NANO / "tokenizer.json" if name == "nano" else unpack(*ARCHIVES[name], tmp_path_factory.mktemp(name))
    package = tokenizers.Tokenizer.from_file(str(file))
    package.no_truncation()
    package.no_padding()
    return name, file, package


def test_random_strings(tokenizer, texts):
    name, file, package = tokenizer
    encodings = package.encode_batch(texts)
    assert_equal_ids(texts, ask(file, [{"text": text} for text in texts]), encodings)
    for skip in (False, True):
        answers = ask(file, [{"ids": encoding.ids, "skip_special_tokens": skip} for encoding in encodings])
        expected = package.decode_batch([encoding.ids for encoding in encodings], skip_special_tokens=skip)
        assert [answer.get("text") for answer in answers] == expected
        if not skip and name != "qwen2":  # whose NFC changes the text
            assert expected == texts


def test_special_tokens_as_plain_text(tokenizer, texts):
    _, file, package = tokenizer
    package.encode_special_tokens = True
    try:
        encodings = package.encode_batch(texts[:5000])
    finally:
        package.encode_special_tokens = False
    answers = ask(file, [{"text": text, "parse_special": False} for text in texts[:5000]])
    assert_equal_ids(texts[:5000], answers, encodings)


def test_cut_characters_decode_alike(tokenizer, texts):
    """Random ids are full of bytes that are no characters."""
    _, file, package = tokenizer
    size = package.get_vocab_size()
    lists = [[(ord(c) * 7919) % size for c in text] for text in texts[:2000]]
    answers = ask(file, [{"ids": ids, "skip_special_tokens": False} for ids in lists])
    assert [answer.get("text") for answer in answers] == package.decode_batch(lists, skip_special_tokens=False)


def test_books(tokenizer):
    """Thirteen books, in parts of 2,000 characters (the package slows down on long texts)."""
    _, file, package = tokenizer
    books = lzma.open(shared("text/books.txt.xz"), "rt", newline="").read()
    parts = [books[begin : begin + 2000] for begin in range(0, len(books), 2000)]
    answers = ask(file, [{"text": part} for part in parts])
    assert_equal_ids(parts, answers, package.encode_batch_fast(parts))


def test_a_book_as_one_text(tokenizer):
    """Long texts: the split pattern sees more than a part, and the cache of pieces fills."""
    _, file, package = tokenizer
    book = lzma.open(NANO.parent / "text" / "books.txt.xz", "rt", newline="").read()[:100_000]
    [answer] = ask(file, [{"text": book}])
    assert answer["ids"] == package.encode_batch_fast([book])[0].ids
    [answer] = ask(file, [{"ids": answer["ids"]}])
    assert answer["text"] == book


def test_golden_files(tokenizer, tmp_path):
    """Ids that llama.cpp has for its own test strings."""
    name, file, _ = tokenizer
    if name not in GOLDEN:
        pytest.skip("no golden file for nano")
    vocabulary = f"./golden/ggml-vocab-{GOLDEN[name]}.gguf"
    inputs = unpack("tokenizers.tar.xz", f"{vocabulary}.inp", tmp_path).read_bytes().decode()
    outputs = unpack("tokenizers.tar.xz", f"{vocabulary}.out", tmp_path).read_text()
    texts = inputs.split("\n__ggml_vocab_test__\n")[:-1]
    expected = [[int(token) for token in line.split()] for line in outputs.splitlines()]
    answers = ask(file, [{"text": text} for text in texts])
    assert [answer["ids"] for answer in answers] == expected
