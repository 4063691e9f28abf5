#pragma once
#include <cstddef>
#include <string>
#include <string_view>

namespace retrosparse {

/// One step through bytes that ought to be UTF-8: the sequence at some offset, and how many bytes it takes. An invalid
/// one takes as many bytes as could still have begun a valid one, at least one ("maximal subpart", Unicode Standard
/// section 3.9), so that decoders which replace it by U+FFFD agree on how often.
struct Utf8Sequence {
  size_t size;
  bool valid;
};

/// The sequence at bytes[offset]; offset < bytes.size(). Surrogates, overlong forms and values above U+10FFFF are
/// invalid.
Utf8Sequence read_utf8_sequence(std::string_view bytes, size_t offset);

/// The offset of the first byte that is not part of valid UTF-8, or std::string_view::npos.
size_t find_invalid_utf8(std::string_view bytes);

/// `bytes` with every invalid sequence replaced by U+FFFD.
std::string replace_invalid_utf8(std::string_view bytes);

/// Appends the UTF-8 form of a code point that is not a surrogate.
void append_utf8(char32_t code_point, std::string& text);

/// The number of bytes of the UTF-8 sequence that begins with this byte; the text is known to be valid.
inline size_t utf8_size(char lead) {
  const auto byte = static_cast<unsigned char>(lead);
  return byte < 0x80 ? 1 : byte < 0xE0 ? 2 : byte < 0xF0 ? 3 : 4;
}

/// Decodes the code point at text[offset] of valid UTF-8 and moves `offset` behind it.
inline char32_t next_code_point(std::string_view text, size_t& offset) {
  const auto at = [&](size_t index) { return static_cast<unsigned char>(text[index]); };
  const size_t begin = offset;
  const size_t size = utf8_size(text[begin]);
  offset += size;
  switch (size) {
    case 1:
      return at(begin);
    case 2:
      return (at(begin) & 0x1Fu) << 6 | (at(begin + 1) & 0x3Fu);
    case 3:
      return (at(begin) & 0x0Fu) << 12 | (at(begin + 1) & 0x3Fu) << 6 | (at(begin + 2) & 0x3Fu);
    default:
      return (at(begin) & 0x07u) << 18 | (at(begin + 1) & 0x3Fu) << 12 | (at(begin + 2) & 0x3Fu) << 6 |
             (at(begin + 3) & 0x3Fu);
  }
}

/// The offset at which the code point ends that begins before `offset`: next_code_point backwards. offset > 0.
inline size_t previous_offset(std::string_view text, size_t offset) {
  do {
    --offset;
  } while ((static_cast<unsigned char>(text[offset]) & 0xC0) == 0x80);
  return offset;
}

}  // namespace retrosparse
