#include "text/utf8.h"

#include <cstdint>
#include <cstring>

namespace retrosparse {

Utf8Sequence read_utf8_sequence(std::string_view bytes, size_t offset) {
  const auto at = [&](size_t index) { return static_cast<unsigned char>(bytes[index]); };
  const unsigned char lead = at(offset);
  if (lead < 0x80) {
    return {1, true};
  }
  if (lead < 0xC2 || lead > 0xF4) {
    return {1, false};
  }
  // What the second byte may be; the others are 80..BF (Unicode Standard, table 3-7).
  const unsigned char lowest = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
  const unsigned char highest = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
  const size_t size = utf8_size(bytes[offset]);
  for (size_t i = 1; i < size; ++i) {
    if (offset + i == bytes.size()) {
      return {i, false};
    }
    const unsigned char byte = at(offset + i);
    if (i == 1 ? byte < lowest || byte > highest : (byte & 0xC0) != 0x80) {
      return {i, false};
    }
  }
  return {size, true};
}

size_t find_invalid_utf8(std::string_view bytes) {
  size_t offset = 0;
  while (offset < bytes.size()) {
    uint64_t word;
    if (offset + sizeof word <= bytes.size()) {
      std::memcpy(&word, bytes.data() + offset, sizeof word);
      if ((word & 0x8080808080808080u) == 0) {
        offset += sizeof word;
        continue;
      }
    }
    const Utf8Sequence sequence = read_utf8_sequence(bytes, offset);
    if (!sequence.valid) {
      return offset;
    }
    offset += sequence.size;
  }
  return std::string_view::npos;
}

std::string replace_invalid_utf8(std::string_view bytes) {
  std::string text;
  text.reserve(bytes.size());
  for (size_t offset = 0; offset < bytes.size();) {
    const Utf8Sequence sequence = read_utf8_sequence(bytes, offset);
    text += sequence.valid ? bytes.substr(offset, sequence.size) : "\uFFFD";
    offset += sequence.size;
  }
  return text;
}

void append_utf8(char32_t code_point, std::string& text) {
  const auto push = [&](char32_t byte) { text.push_back(static_cast<char>(byte)); };
  if (code_point < 0x80) {
    push(code_point);
  } else if (code_point < 0x800) {
    push(0xC0 | code_point >> 6);
    push(0x80 | (code_point & 0x3F));
  } else if (code_point < 0x10000) {
    push(0xE0 | code_point >> 12);
    push(0x80 | (code_point >> 6 & 0x3F));
    push(0x80 | (code_point & 0x3F));
  } else {
    push(0xF0 | code_point >> 18);
    push(0x80 | (code_point >> 12 & 0x3F));
    push(0x80 | (code_point >> 6 & 0x3F));
    push(0x80 | (code_point & 0x3F));
  }
}

}  // namespace retrosparse
