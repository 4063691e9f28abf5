#include "checkpoint/safetensors_header.h"

#include <algorithm>
#include <cstring>
#include <string>
#include <vector>

#include "fuzz.h"

namespace retrosparse {
namespace {

/// What holds for every header that is accepted: the tensors fill the data section one after the other.
void check(const SafetensorsHeader& header, uint64_t file_size) {
  std::vector<std::pair<uint64_t, uint64_t>> ranges;
  for (const auto& [name, info] : header.tensors) {
    fuzz_check(name == info.name, "a tensor knows its name");
    fuzz_check(info.bytes() == static_cast<uint64_t>(info.numel()) * c10::elementSize(info.dtype),
               "size is shape x dtype");
    ranges.emplace_back(info.begin, info.end);
  }
  std::ranges::sort(ranges);
  uint64_t reached = 0;
  for (const auto& [begin, end] : ranges) {
    fuzz_check(begin == reached && end >= begin, "no overlap and no hole");
    reached = end;
  }
  fuzz_check(header.data_begin + reached == file_size, "the data fills the file");
}

void parse_and_check(std::span<const std::byte> bytes, uint64_t file_size) {
  check(parse_safetensors_header(bytes, file_size, "fuzz.safetensors"), file_size);
}

}  // namespace
}  // namespace retrosparse

/// The first byte chooses: the rest is a whole file, or it is two bytes with the size of a data section and a header's
/// text, whose length is put in front, so that mutations get past the length.
RETROSPARSE_FUZZ_TARGET(bytes) {
  using namespace retrosparse;
  if (bytes.size() < 3) {
    return;
  }
  if (bytes[0] == std::byte{'f'}) {
    parse_and_check(bytes.subspan(1), bytes.size() - 1);
    return;
  }
  uint16_t data_size = 0;
  std::memcpy(&data_size, bytes.data() + 1, sizeof(data_size));
  const uint64_t length = bytes.size() - 3;
  std::vector<std::byte> file(sizeof(length));
  std::memcpy(file.data(), &length, sizeof(length));
  file.insert(file.end(), bytes.begin() + 3, bytes.end());
  parse_and_check(file, file.size() + data_size);
}
