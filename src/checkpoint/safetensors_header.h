#pragma once
#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>

#include "checkpoint/tensor_info.h"

namespace retrosparse {

/// The header of a safetensors file. The format (https://github.com/huggingface/safetensors):
///   8 bytes    n, the header's length, unsigned little-endian
///   n bytes    json: {"NAME": {"dtype": "F32", "shape": [2, 3], "data_offsets": [begin, end]}, ...,
///                     "__metadata__": {"key": "text", ...}}, padded with spaces
///   the rest   the data section: the tensors one after the other, row-major little-endian, no holes
struct SafetensorsHeader {
  std::map<std::string, TensorInfo> tensors;
  std::map<std::string, std::string> metadata;
  uint64_t data_begin = 0;  // where the data section starts in the file
};

/// Reads and checks a header; pure, so that it can be fuzzed.
///   bytes      the file's content, at least as far as the header goes
///   file_size  the length of the whole file; the data section has to fill it exactly
///   file_name  for messages
/// Error: truncated, a header of more than 100 MB or beyond the file, not json, a tensor given twice, an unknown dtype,
/// a shape that is negative or overflows, offsets that are reversed, outside the file, overlapping, leave a hole or do
/// not fit shape and dtype.
SafetensorsHeader parse_safetensors_header(std::span<const std::byte> bytes, uint64_t file_size,
                                           const std::string& file_name);

/// What a file starts with whose data section holds `tensors` in the order of their offsets: the length and the header,
/// padded to 8 bytes, metadata first and by name. What parse_safetensors_header makes of it are the same tensors.
/// Metadata that is not UTF-8 (a path, say) gets replacement characters.
std::string safetensors_header_bytes(std::span<const TensorInfo> tensors,
                                     const std::map<std::string, std::string>& metadata);

}  // namespace retrosparse
