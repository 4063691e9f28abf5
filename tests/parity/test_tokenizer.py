"""Our tokenizer against the `tokenizers` package: the same ids, the same text back."""

import json
import lzma
import subprocess
import tarfile
import unicodedata
from pathlib import Path

import pytest
import tokenizers
from conftest import BUILD, NANO, shared
from text_samples import random_texts

ARCHIVES = {  # in ../shared/golden
    "qwen2": ("tokenizers-hf.tar.xz", "qwen2/tokenizer.json"),
    "llama3": ("tokenizers-hf.tar.xz", "llama3/tokenizer.json"),
    "gpt2": ("tokenizers.tar.xz", "./tokenizer-gpt2/tokenizer.json"),
}
GOLDEN = {"qwen2": "qwen2", "llama3": "llama-bpe", "gpt2": "gpt-2"}


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


@pytest.fixture(scope="module")
def texts():
    return random_texts(20_000, seed=1)


def assert_equal_ids(texts, answers, encodings):
    for text, answer, encoding in zip(texts, answers, encodings, strict=True):
        assert answer.get("ids") == encoding.ids, (text, answer, encoding.tokens)


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


# Variants of the nano tokenizer, for what the real ones above do not use.

_ENDING = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
GPT4O = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+" + _ENDING + "|"
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*" + _ENDING + "|"
    r"\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
GPT4 = (
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|"
    r"\s++$|\s*[\r\n]|\s+(?!\S)|\s"
)
DEEPSEEK = [
    r"\p{N}{1,3}",
    "[一-龥぀-ゟ゠-ヿ]+",
    r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+|"
    r" ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
]
KIMI = (
    r"[\p{Han}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+|\p{N}{1,3}|"
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s+"
)
SMALL_PATTERNS = [
    *("", "a", "x*", "a??", r"[aeiou]{1,2}", r"e{,2}", r"l{2,}", r"l{1,2}?", r"(ab|a|b)+?", "a{b}", r"(?:(?:a|b)+|c)+"),
    *("^", "$", "^.", ".$", "..", r"\A.", r".\z", r".\Z", r"\s+$", r"\b", r"\B", r"\bx", r"\p{L}|$"),
    *(r"\w+", r"\W+", r"\d+", r"\D+", r"\h+", r"\H", r"\S+", r"[\S\d]+", r"[^\S\n]+", r"[\w&&\D]", r"[^\w]"),
    *(r"\p{^L}+", r"\P{Lu}+", r"\p{Letter}+", r"\p{uppercase-letter}", r"\p{Mn}", r"[^\P{L}]+", r"[\p{N}_]+"),
    *(r"[\w-]+", r"[-a]", r"[a\-z]", r"[a-z&&[^aeiou]]+", r"[^a-z&&b-y]+", r"[a[bc]]+", r"[\t\x20]"),
    *(r"(?<=a)[a-z]", r"(?<!\d)\p{L}", r"(?=x)", r"(?!a)\w", r"(?>a+)b?"),
    *(r"(?i:k+)", r"(?i:[a-s]+)", r"(?i:s't)", r"(?i:’s|'s)", r"(?i:don't)|n"),
    *(r"(?i)'s|'t|\p{L}+|\s+", r"a(?i)b|s|t", r"(a(?i)x)|l", r"(?i)[^\s\p{L}\p{N}]+", r"(?i)[^a-é]", r"(?i:é|ü|ж)+"),
    *(r"(?i)\p{Lu}+", r"(?i)[\p{Lo}\p{Mc}]", r"(?i)\w+|\W", r"(?<word>\p{L}+)|(?<rest>\s)", r"(?i:[^k\p{Lu}])+"),
    *(r"\p{Han}+|[\p{Hiragana}\p{Katakana}]+|\p{Hangul}", r"\p{Latin}+|\p{Cyrl}+", r"[^\p{Greek}\P{L}]+", r"\p{^Thai}+"),
    *(r"[[:space:]]+|[[:alpha:]]+", r"[[:^alnum:]]", r"[[:punct:][:digit:]]+", r"[^[:word:]a]+", r"[[:upper:]&&[^A-F]]"),
    *(r"\u0041|\x42|\x{1F600}", r"]", r"}", r"a}", r"\.", r"\ ", r"é|ï", "👩‍👩"),
]
BEHAVIORS = ["Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous"]
BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}


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


def test_split_patterns(texts):
    patterns = [GPT4O, GPT4, KIMI, *DEEPSEEK, *SMALL_PATTERNS]
    variants = [{"pre_tokenizer": sequence(split(pattern), BYTE_LEVEL)} for pattern in patterns]
    assert_same_as_package(variants, texts[:300])


def test_split_behaviors(texts):
    patterns = [r"\s+", r"x*", r"\p{L}|$"]
    variants = [{"pre_tokenizer": sequence(split(pattern, behavior, invert), BYTE_LEVEL)}
                for pattern in patterns for behavior in BEHAVIORS for invert in (False, True)]
    variants += [{"pre_tokenizer": sequence(split(text, behavior, False, "String"), BYTE_LEVEL)}
                 for text in ("e", "'s", "世界", "") for behavior in BEHAVIORS]
    assert_same_as_package(variants, texts[:200])


def test_pre_tokenizer_sequences(texts):
    def byte_level(prefix, regex):
        return {**BYTE_LEVEL, "add_prefix_space": prefix, "use_regex": regex}

    def digits(individual):
        return {"type": "Digits", "individual_digits": individual}

    stages = [byte_level(False, True), byte_level(True, True), byte_level(True, False), byte_level(False, False),
              sequence(digits(True), byte_level(False, True)), sequence(digits(False), byte_level(True, True)),
              sequence(*map(split, DEEPSEEK), BYTE_LEVEL), sequence(split(r"\s"), byte_level(True, False)),
              sequence(sequence(digits(True)), sequence(split("[a-c]"), byte_level(True, True)))]
    assert_same_as_package([{"pre_tokenizer": stage} for stage in stages], texts[:500])


def delicate_code_points():
    """The borders of every category, and one in five of what Python's Unicode does not know yet."""
    category = [unicodedata.category(chr(c)) for c in range(0x33001)]
    borders = (c for c in range(0x33000) if category[c] != category[c - 1] or category[c] != category[c + 1])
    unknown = (c for c in range(0, 0x33000, 5) if category[c] == "Cn")
    return sorted({*borders, *unknown} - {*range(0xD800, 0xE000)})


def test_every_class():
    """Every property and escape means exactly what it means to the package: what is matched is removed."""
    properties = "Lu Ll Lt Lm Lo Mn Mc Me Nd Nl No Pc Pd Ps Pe Pi Pf Po Sm Sc Sk So Zs Zl Zp Cc Cf Co Cn L M N P S Z C"
    scripts = ("Han Hiragana Katakana Hangul Bopomofo Latin Greek Cyrillic Arabic Hebrew Armenian Georgian Devanagari Bengali "
               "Tamil Telugu Kannada Thai Lao Khmer Myanmar Tibetan Mongolian Ethiopic Cherokee Balinese Khojki "
               "Egyptian_Hieroglyphs Khitan_Small_Script Coptic")
    brackets = "alnum alpha ascii blank cntrl digit graph lower print punct space upper word xdigit".split()
    classes = [rf"\p{{{name}}}" for name in [*properties.split(), *scripts.split()]] + [r"\s", r"\w", r"\d", r"\h", "."]
    classes += [f"[[:{name}:]]" for name in brackets] + [rf"(?i)[^\p{{{name}}}]" for name in ("Lu", "Ll", "L", "Mn", "So")]
    variants = [{"pre_tokenizer": sequence(split(f"{name}+", "Removed"), BYTE_LEVEL)} for name in classes]
    digits = {"type": "Digits", "individual_digits": True}
    text = "".join(map(chr, delicate_code_points()))
    parts = [text[begin : begin + 1000] for begin in range(0, len(text), 1000)]
    assert_same_as_package([*variants, {"pre_tokenizer": sequence(digits, BYTE_LEVEL)}], parts)


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
