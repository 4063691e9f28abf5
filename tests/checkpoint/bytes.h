#pragma once
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

namespace retrosparse {

/// A safetensors file put together by hand: the header's length, the header, the data.
inline std::string safetensors_bytes(std::string_view header, size_t data_bytes) {
  const uint64_t length = header.size();
  std::string bytes(sizeof(length), '\0');
  std::memcpy(bytes.data(), &length, sizeof(length));
  return bytes + std::string(header) + std::string(data_bytes, '\1');
}

}  // namespace retrosparse
