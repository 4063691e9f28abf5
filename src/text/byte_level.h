#pragma once
#include <optional>
#include <string>
#include <string_view>

namespace retrosparse {

/// The alphabet of byte-level BPE (GPT-2): every byte is written as a visible character. Printable Latin-1 stands for
/// itself, the other 68 bytes are, in ascending order, U+0100 and what follows; so " world" is written "Ġworld".
std::string to_byte_level(std::string_view bytes);

/// The bytes that a token of the vocabulary stands for; none if it has a character outside of the alphabet.
std::optional<std::string> from_byte_level(std::string_view token);

/// The split pattern of GPT-2, which the pre-tokenizer ByteLevel applies if it is told to `use_regex`.
inline constexpr std::string_view kGpt2Pattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

}  // namespace retrosparse
