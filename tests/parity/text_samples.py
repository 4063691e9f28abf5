"""Random strings that hurt tokenizers: reproducible, and of every kind that real text and bad luck can bring."""

import random

SPECIAL = [
    *("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|begin_of_text|>", "<|end_of_text|>", "<|object_ref_start|>"),
    *("<tool_call>", "<think>", "<|im_start", "|>", "<|", "<<|endoftext|>>"),
]
CONTRACTIONS = [
    *("'s", "'S", "'ſ", "’s", "'t", "'T", "'re", "'Re", "'RE", "'ve", "'vE", "'m", "'M", "'ll", "'lL", "'LL", "'d", "'D"),
    *("''s", "'\u017f\u017f", "'K", "'\u212a"),
]
SPACES = [
    *" \t\n\r\v\f\x1c\x85\xa0\u1680\u180e\u2028\u2029\u202f\u205f\u2060\u3000\ufeff",
    *map(chr, range(0x2000, 0x2010)),
    *("\r\n", "\n\n", "  ", "   "),
]
WORDS = ["Hello", "world", "the", "tokenizer", "I", "don", "naïve", "Ünïcödé", "Straße", "STRASSE", "ﬁnﬂ", "привет", "МИР",
         "γειά", "Σίσυφος", "שלום", "مرحبا", "नमस्ते", "สวัสดี", "ខ្មែរ", "你好", "世界", "日本語テキスト", "カタカナ", "한국어", "각각",
         "Việt", "İstanbul", "ıI", "aaaaaaaaaaaaaaaa", "x", "_", "__init__", "foo_bar", "CamelCase", "http://a.b/c?d=e&f"]
EMOJI = ["😀", "👍🏽", "👩‍👩‍👧‍👦", "🏳️‍🌈", "🇩🇪🇫🇷", "☃️", "1️⃣", "🦙", "♀", "\u200d", "\ufe0f"]
BLOCKS = [(0x20, 0x7F), (0x80, 0x250), (0x250, 0x370), (0x370, 0x530), (0x530, 0x700), (0x700, 0xA00), (0x900, 0x1100),
          (0x1100, 0x1400), (0x1780, 0x1B00), (0x1AB0, 0x2000), (0x2000, 0x2C00), (0x3000, 0x3400), (0x4E00, 0x4F00),
          (0xA000, 0xAC00), (0xAC00, 0xD7FF), (0xF900, 0x10000), (0x10000, 0x11000), (0x11000, 0x12000),
          (0x16000, 0x17000), (0x1BC00, 0x1D400), (0x1D400, 0x1D800), (0x1E000, 0x1F000), (0x1F000, 0x1FC00),
          (0x2F800, 0x2FA20), (0x31000, 0x32400)]
MARKS = [(0x300, 0x370), (0x483, 0x488), (0x591, 0x5C8), (0x610, 0x61B), (0x64B, 0x660), (0x7EB, 0x7FE), (0x898, 0x8A0),
         (0x8CA, 0x900), (0x93C, 0x94E), (0xC3C, 0xC57), (0xD3B, 0xD4E), (0xE38, 0xE4C), (0xF71, 0xF85), (0x1AB0, 0x1AD0),
         (0x1DC0, 0x1E00), (0x20D0, 0x20F1), (0x3099, 0x309B), (0xFE20, 0xFE30), (0x10EFC, 0x10F00), (0x1193D, 0x11944),
         (0x1D165, 0x1D16A), (0x1E130, 0x1E137), (0x1E4EC, 0x1E4F0)]
DIGITS = ["0", "1", "12", "123", "1234", "12345678", "3.14", "1,000", "٣٤", "१२", "１２", "Ⅷ", "½", "²", "𝟗𝟘", "四", "\U00011de0"]


def _code_points(rng, ranges, count):
    return "".join(chr(rng.randrange(*rng.choice(ranges))) for _ in range(count))


def _any(rng):
    code_points = (rng.randrange(0x110000) for _ in range(rng.randint(1, 6)))
    return "".join(chr(c) for c in code_points if not 0xD800 <= c < 0xE000)


KINDS = [
    _any,
    lambda rng: _code_points(rng, BLOCKS, rng.randint(1, 8)),
    lambda rng: _code_points(rng, BLOCKS[:1], rng.randint(1, 20)),
    lambda rng: "".join(rng.choices(SPACES, k=rng.randint(1, 6))),
    lambda rng: " ".join(rng.choices(WORDS, k=rng.randint(1, 3))),
    lambda rng: rng.choice(WORDS) + rng.choice(CONTRACTIONS) + rng.choice(["", " ", "t", "LL", "é"]),
    lambda rng: "".join(rng.choices(DIGITS, k=rng.randint(1, 3))),
    lambda rng: "".join(rng.choices(EMOJI, k=rng.randint(1, 3))),
    lambda rng: rng.choice("aeoAEO가ᄀंकก ") + _code_points(rng, MARKS, rng.randint(1, 5)),
    lambda rng: _code_points(rng, [(0x1100, 0x1113), (0x1161, 0x1176), (0x11A7, 0x11C3)], rng.randint(2, 5)),
    lambda rng: rng.choice(SPECIAL),
    lambda rng: rng.choice(["", " ", "\n", "!", "...", "?!\n", "--", "()", "{}[]", '"'] * 2 + WORDS),
]


def random_text(rng: random.Random) -> str:
    return "".join(rng.choice(KINDS)(rng) for _ in range(rng.randint(1, 6)))


def random_texts(count: int, seed: int) -> list[str]:
    rng = random.Random(seed)
    return [random_text(rng) for _ in range(count)]
