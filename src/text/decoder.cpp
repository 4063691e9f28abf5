#include "text/decoder.h"

#include <fmt/ranges.h>

#include "text/byte_level.h"
#include "text/utf8.h"

namespace retrosparse {

std::string Decoder::decode(std::vector<std::string> pieces) const {
  for (const Stage stage : stages) {
    std::string fused;
    for (const std::string& piece : pieces) {
      fused += stage == Stage::kByteLevel ? from_byte_level(piece).value_or(piece) : piece;
    }
    pieces = {stage == Stage::kByteLevel ? replace_invalid_utf8(fused) : std::move(fused)};
  }
  return fmt::format("{}", fmt::join(pieces, separator));
}

}  // namespace retrosparse
