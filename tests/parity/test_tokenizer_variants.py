"""What else a tokenizer.json may hold against the `tokenizers` package, as variants of the nano tokenizer."""

import json
import unicodedata

import pytest
import tokenizers
from conftest import NANO
from tokenizer_checks import BYTE_LEVEL, assert_same_as_package, delicate_code_points, ours, sequence, texts  # noqa: F401 (a fixture)


def test_normalizers(texts):
    forms = [{"type": form} for form in ("NFC", "NFD", "NFKC", "NFKD")]
    variants = [None, *forms, sequence(name="normalizers"), sequence(forms[1], forms[0], name="normalizers"),
                sequence(forms[3], forms[2], name="normalizers")]
    assert_same_as_package([{"normalizer": variant} for variant in variants], texts[:4000])


def test_normal_form_of_every_character():
    """Each code point that might not be its own normal form alone, before a mark, and behind a letter with a mark."""
    delicate = {c for c in range(0x33000) if unicodedata.decomposition(chr(c)) or unicodedata.combining(chr(c))}
    characters = [chr(c) for c in sorted(delicate | {*delicate_code_points()} | {*range(0xAC00, 0xAC80)})]
    texts = ["|".join(characters[begin : begin + 1000]) for begin in range(0, len(characters), 1000)]
    texts += [text.replace("|", "\u0323|a\u0301") for text in texts]
    forms = ("NFC", "NFD", "NFKC", "NFKD")
    assert_same_as_package([{"normalizer": {"type": form}} for form in forms], texts)


def added(content, identifier, **flags):
    token = {"id": identifier, "content": content}
    return {**token, **dict.fromkeys(["single_word", "lstrip", "rstrip", "normalized", "special"], False), **flags}


def test_added_tokens(texts):
    nano = json.loads((NANO / "tokenizer.json").read_text())
    contents = ["ab", "abc", "b", "a ", " a", "  ", "é", "e\u0301", "<x>", "<x>y", "the", "12", "世", "\u0301", "I"]
    flags = [{}, {"single_word": True}, {"lstrip": True}, {"rstrip": True}, {"lstrip": True, "rstrip": True},
             {"normalized": True}, {"normalized": True, "single_word": True, "lstrip": True},
             {"special": True, "rstrip": True}]
    sides = [("", " ", "x", "\t \u3000", "é", "\u200d"), ("", "  ", "y", "\n", "_", "\u0301")]
    extra = [f"{left}{content}{right}" for content in contents for left in sides[0] for right in sides[1]]
    variants = []
    for normalizer in (None, {"type": "NFC"}, {"type": "NFD"}):
        for shift in range(len(flags)):
            tokens, next_id = list(nano["added_tokens"]), len(nano["model"]["vocab"])
            for index, content in enumerate(contents):
                # A token that begins with white space, inside what another one strips, makes the package panic.
                chosen = flags[(index + shift) % len(flags)] if content.strip() == content else {}
                if normalizer and chosen.get("normalized") and content in ("é", "e\u0301"):
                    continue  # equal once normalized, which the package does not accept
                known = nano["model"]["vocab"].get(content)
                tokens.append(added(content, next_id if known is None else known, **chosen))
                next_id += known is None
            variants.append({"added_tokens": tokens, "normalizer": normalizer})
    joined = ["".join(extra[begin : begin + 3]) for begin in range(0, len(extra), 3)]
    assert_same_as_package(variants, extra + joined + texts[:100])


def test_added_tokens_where_the_vocabulary_has_holes(texts):
    """The package counts on from the number of tokens, and the file's own numbers do not count."""
    nano = json.loads((NANO / "tokenizer.json").read_text())
    size = len(nano["model"]["vocab"])
    last = next(token for token, index in nano["model"]["vocab"].items() if index == size - 1)
    merges = [merge for merge in nano["model"]["merges"] if "".join(merge).replace(" ", "") != last]
    variants = []
    for moved_to in (size - 1, size, size + 10):
        model = {**nano["model"], "merges": merges, "vocab": {**nano["model"]["vocab"], last: moved_to}}
        for first in (size, moved_to + 1, 5):
            plain = [added("<|a|>", first), added("<|b|>", first + 1, special=True)]
            variants.append({"model": model, "added_tokens": plain})
            if moved_to != size:  # else two added tokens would have one id
                variants.append({"model": model, "added_tokens": [added(last, moved_to), *plain]})
    assert_same_as_package(variants, ["x<|a|>y<|b|>", f"<|b|><|b|>{last}", "the permissions", *texts[:50]])


def test_post_processors(texts):
    def special(name):
        return {"SpecialToken": {"id": name, "type_id": 0}}

    text = {"Sequence": {"id": "A", "type_id": 0}}
    tokens = {
        "<b>": {"id": "<b>", "ids": [0], "tokens": ["<|endoftext|>"]},
        "<e>": {"id": "<e>", "ids": [1, 2], "tokens": ["<|im_start|>", "<|im_end|>"]},
    }

    def template(*single):
        return {"type": "TemplateProcessing", "single": list(single), "pair": [text], "special_tokens": tokens}

    byte_level = {**BYTE_LEVEL, "trim_offsets": False}
    bert = {"type": "BertProcessing", "sep": ["</s>", 2], "cls": ["<s>", 1]}
    processors = [
        None,
        byte_level,
        template(special("<b>"), text),
        template(text, special("<e>")),
        template(text, special("<b>"), text),
        template(text, text),
        template(),
        sequence(byte_level, template(special("<e>"), text), name="processors"),
        bert,
        {**bert, "type": "RobertaProcessing", "trim_offsets": True, "add_prefix_space": True},
    ]
    variants = [{"post_processor": processor} for processor in processors]
    for add in (True, False):
        assert_same_as_package(variants, texts[:50], add_special_tokens=add)


def decoders():
    fuse = {"type": "Fuse"}
    return [None, ..., BYTE_LEVEL, fuse, *(sequence(*stages, name="decoders") for stages in (
        (), (BYTE_LEVEL,), (BYTE_LEVEL, fuse), (fuse, BYTE_LEVEL), (BYTE_LEVEL, BYTE_LEVEL), (fuse, fuse),
        (sequence(BYTE_LEVEL, name="decoders"), fuse)))]


@pytest.mark.parametrize("decoder", decoders(), ids=str)
def test_decoders(texts, decoder):
    """Text, tokens that are no bytes, half characters, and ids at random; `...` is a file without the key."""
    document = json.loads((NANO / "tokenizer.json").read_text())
    document["decoder"] = decoder
    size = len(document["model"]["vocab"])
    document["added_tokens"] += [added("<世>", size), added("é x", size + 1), added("<s>", size + 2, special=True)]
    if decoder is ...:
        del document["decoder"]
    package = tokenizers.Tokenizer.from_str(json.dumps(document))
    lists = [package.encode(text).ids for text in [*texts[:1000], "<世><s>naïve é x 日本<s>", "<s>", ""]]
    lists += [[(ord(c) * 7919) % (size + 3) for c in text] for text in texts[:1000]]
    for skip in (True, False):
        answers = ours([{"json": document}, *({"ids": ids, "skip_special_tokens": skip} for ids in lists)])
        assert [answer.get("text") for answer in answers[1:]] == package.decode_batch(lists, skip_special_tokens=skip)


def test_models(texts):
    """Both spellings of merges, whole words without merges, repeated merges, bytes without a token."""
    model = json.loads((NANO / "tokenizer.json").read_text())["model"]
    pairs = [merge if isinstance(merge, list) else merge.split(" ") for merge in model["merges"]]
    changes = [
        {"merges": pairs},
        {"merges": ["#version: 0.2", *map(" ".join, pairs)]},
        {"ignore_merges": True},
        {"merges": pairs[500:]},
        {"merges": pairs[::2], "ignore_merges": True},
        {"merges": pairs + pairs[:300]},
        {"merges": []},
        {"dropout": 0.0, "continuing_subword_prefix": ""},
    ]
    variants = [{"model": {**model, **change}} for change in changes]
    poor = {token: index for index, token in enumerate(token for token in model["vocab"] if token not in "eĠ<Ã")}
    poor_merges = [pair for pair in pairs if {*pair, "".join(pair)} <= poor.keys()]
    added_tokens = [added(f"<{name}>", len(poor) + index) for index, name in enumerate("uv")]
    for unknown in ({}, {"unk_token": "x"}, {"unk_token": "x", "fuse_unk": True}):
        poor_model = {**model, "vocab": poor, "merges": poor_merges, **unknown}
        variants.append({"model": poor_model, "added_tokens": added_tokens})
    assert_same_as_package(variants, texts[:1000])


def test_long_pieces():
    """Pieces of a megabyte, on which anything quadratic would take hours; equal on what the package can do in time."""
    size = 1_000_000
    marks = "\u0301\u0323" * (size // 10)
    texts = ["a" * size, " " * size + "a", "ab" * (size // 2), "\n" * size, "é" * (size // 2), "!" * size, marks]
    nano = json.loads((NANO / "tokenizer.json").read_text())
    for normalizer in (None, {"type": "NFC"}):
        answers = ours([{"json": {**nano, "normalizer": normalizer}}, *({"text": text} for text in texts)])
        assert all("ids" in answer for answer in answers[1:])
        assert_same_as_package([{"normalizer": normalizer}], [text[: size // 20] for text in texts])
