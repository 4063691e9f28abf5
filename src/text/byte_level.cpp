#include "text/byte_level.h"

#include <array>

#include "text/utf8.h"

namespace retrosparse {

namespace {

constexpr char32_t kFirstShifted = 0x100;

constexpr bool stands_for_itself(int byte) {
  return (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
}

/// The character of each byte.
constexpr std::array<char32_t, 256> kAlphabet = [] {
  std::array<char32_t, 256> alphabet{};
  char32_t shifted = kFirstShifted;
  for (int byte = 0; byte < 256; ++byte) {
    alphabet[static_cast<size_t>(byte)] = stands_for_itself(byte) ? static_cast<char32_t>(byte) : shifted++;
  }
  return alphabet;
}();

/// The byte of each character; -1 for those below U+0144 that stand for none.
constexpr std::array<int, kFirstShifted + 68> kBytes = [] {
  std::array<int, kFirstShifted + 68> bytes{};
  bytes.fill(-1);
  for (size_t byte = 0; byte < kAlphabet.size(); ++byte) {
    bytes[kAlphabet[byte]] = static_cast<int>(byte);
  }
  return bytes;
}();

}  // namespace

std::string to_byte_level(std::string_view bytes) {
  std::string token;
  for (const char byte : bytes) {
    append_utf8(kAlphabet[static_cast<unsigned char>(byte)], token);
  }
  return token;
}

std::optional<std::string> from_byte_level(std::string_view token) {
  std::string bytes;
  for (size_t offset = 0; offset < token.size();) {
    const char32_t character = next_code_point(token, offset);
    if (character >= kBytes.size() || kBytes[character] < 0) {
      return std::nullopt;
    }
    bytes.push_back(static_cast<char>(kBytes[character]));
  }
  return bytes;
}

}  // namespace retrosparse
