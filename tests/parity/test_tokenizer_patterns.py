"""Split patterns and pre-tokenizers against the `tokenizers` package, as variants of the nano tokenizer."""

from tokenizer_checks import BYTE_LEVEL, assert_same_as_package, delicate_code_points, sequence, split, texts  # noqa: F401 (a fixture)

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
