"""What the tests of tokenizers share: asking ours, and comparing variants of nano's with the `tokenizers` package."""

import json
import subprocess
import unicodedata

import pytest
import tokenizers
from conftest import BUILD, NANO
from text_samples import random_texts

BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}


def ours(requests):
    """Sends requests (see tests/text/tokenize_jsonl.cpp) and returns the answers, None for an error."""
    tool = BUILD / "tests" / "text" / "tokenize_jsonl"
    if not tool.exists():
        pytest.fail(f"{tool} is not built")
    lines = "".join(json.dumps(request) + "\n" for request in requests)
    process = subprocess.run([tool], input=lines, capture_output=True, text=True, check=True, timeout=300)
    return [json.loads(line) for line in process.stdout.split("\n")[:-1]]


def ask(tokenizer_file, requests):
    answers = ours([{"file": str(tokenizer_file)}, *requests])
    assert "error" not in answers[0], answers[0]
    return answers[1:]


@pytest.fixture(scope="module")
def texts():
    return random_texts(20_000, seed=1)


def assert_equal_ids(texts, answers, encodings):
    for text, answer, encoding in zip(texts, answers, encodings, strict=True):
        assert answer.get("ids") == encoding.ids, (text, answer, encoding.tokens)


def split(pattern, behavior="Isolated", invert=False, kind="Regex"):
    return {"type": "Split", "pattern": {kind: pattern}, "behavior": behavior, "invert": invert}


def sequence(*stages, name="pretokenizers"):
    return {"type": "Sequence", name: list(stages)}


def assert_same_as_package(variants, texts, **options):
    """Every variant is a dict of top-level keys that replace those of the nano tokenizer's json."""
    nano = json.loads((NANO / "tokenizer.json").read_text())
    requests, expected = [], []
    for variant in variants:
        document = {**nano, **variant}
        package = tokenizers.Tokenizer.from_str(json.dumps(document))
        requests += [{"json": document}] + [{"text": text, **options} for text in texts]
        expected += [None] + [encoding.ids for encoding in package.encode_batch_fast(texts, **options)]
    for request, answer, ids in zip(requests, ours(requests), expected, strict=True):
        if "json" in request:
            current = {key: value for key, value in request["json"].items() if key != "model"}
            assert "error" not in answer, (answer, current)
        else:
            assert answer.get("ids") == ids, (request, answer, current)


def delicate_code_points():
    """The borders of every category, and one in five of what Python's Unicode does not know yet."""
    category = [unicodedata.category(chr(c)) for c in range(0x33001)]
    borders = (c for c in range(0x33000) if category[c] != category[c - 1] or category[c] != category[c + 1])
    unknown = (c for c in range(0, 0x33000, 5) if category[c] == "Cn")
    return sorted({*borders, *unknown} - {*range(0xD800, 0xE000)})
