#include "checkpoint/safetensors_header.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/json.h"

namespace retrosparse {

static_assert(std::endian::native == std::endian::little, "safetensors data is used as it lies in the file");

using nlohmann::json;

namespace {

constexpr uint64_t kLengthBytes = 8;
constexpr uint64_t kLongestHeader = 100'000'000;  // the limit of the format's own library
constexpr int kDeepest = 2;                       // {"name": {"shape": [...]}}: the list is at depth 2

/// The header's text, without its length in front.
std::string_view header_text(std::span<const std::byte> bytes, uint64_t file_size, const std::string& file_name) {
  if (file_size < kLengthBytes || bytes.size() < kLengthBytes) {
    throw Error("not a safetensors file: too short")
        .file(file_name)
        .expected("at least 8 bytes")
        .found(fmt::format("{}", std::min<uint64_t>(file_size, bytes.size())));
  }
  uint64_t length = 0;
  std::memcpy(&length, bytes.data(), kLengthBytes);
  if (length > kLongestHeader) {
    throw Error("not a safetensors file: absurd header length")
        .file(file_name)
        .expected("at most 100 MB")
        .found(fmt::format("{} bytes", length));
  }
  if (length > file_size - kLengthBytes || length > bytes.size() - kLengthBytes) {
    throw Error("truncated: the header reaches beyond the end of the file")
        .file(file_name)
        .expected(fmt::format("at least {} bytes", kLengthBytes + length))
        .found(fmt::format("{}", file_size));
  }
  return {reinterpret_cast<const char*>(bytes.data()) + kLengthBytes, length};
}

/// Refuses what JsonObject lets pass: a tensor that is given twice, and nesting deep enough to eat up the memory.
void check_structure(std::string_view text, const std::string& file_name) {
  std::set<std::string> names;
  const auto check = [&](int depth, json::parse_event_t event, json& parsed) {
    if (event == json::parse_event_t::key && depth == 1 && !names.insert(parsed.get<std::string>()).second) {
      throw Error("given twice in the header").file(file_name).tensor(parsed.get<std::string>());
    }
    if ((event == json::parse_event_t::object_start || event == json::parse_event_t::array_start) && depth > kDeepest) {
      throw Error("not a safetensors file: the header's json is nested too deep").file(file_name);
    }
    return event != json::parse_event_t::value;  // keeps nothing
  };
  [[maybe_unused]] const json nothing = json::parse(text, check, /*allow_exceptions=*/false);
}

Error tensor_error(const JsonObject& header, const TensorInfo& info, std::string problem) {
  return Error(std::move(problem)).file(header.file()).tensor(info.name);
}

/// The bytes that shape and dtype ask for. Error: a negative size, or a product that does not fit. Sizes of 0 count as
/// 1 in that check, since the strides of an empty tensor have to fit, too.
uint64_t checked_bytes(const JsonObject& header, const TensorInfo& info) {
  int64_t product = static_cast<int64_t>(c10::elementSize(info.dtype));
  bool empty = false;
  for (const int64_t size : info.shape) {
    if (size < 0) {
      throw tensor_error(header, info, "negative size").found("shape " + shape_text(info.shape));
    }
    empty = empty || size == 0;
    if (__builtin_mul_overflow(product, std::max<int64_t>(size, 1), &product)) {
      throw tensor_error(header, info, "absurd size").found("shape " + shape_text(info.shape));
    }
  }
  return empty ? 0 : static_cast<uint64_t>(product);
}

TensorInfo read_tensor(const JsonObject& header, const std::string& name) {
  TensorInfo info;
  info.name = name;
  const JsonObject entry = header.object(name);
  const auto dtype = entry.get<std::string>("dtype");
  const std::optional<at::ScalarType> known = dtype_from_name(dtype);
  if (!known) {
    throw tensor_error(header, info, "unknown dtype").found("'" + dtype + "'");
  }
  info.dtype = *known;
  info.shape = entry.get<std::vector<int64_t>>("shape");
  const auto offsets = entry.get<std::vector<int64_t>>("data_offsets");
  if (offsets.size() != 2 || offsets[0] < 0 || offsets[1] < offsets[0]) {
    throw tensor_error(header, info, "bad data_offsets").expected("[begin, end]").found(shape_text(offsets));
  }
  info.begin = static_cast<uint64_t>(offsets[0]);
  info.end = static_cast<uint64_t>(offsets[1]);
  const uint64_t needed = checked_bytes(header, info);
  if (info.bytes() != needed) {
    throw tensor_error(header, info, "its data does not fit its shape")
        .expected(fmt::format("{} bytes for {} {}", needed, dtype, shape_text(info.shape)))
        .found(fmt::format("{}", info.bytes()));
  }
  return info;
}

/// The tensors have to fill the data section one after the other.
void check_layout(const JsonObject& header, const std::map<std::string, TensorInfo>& tensors, uint64_t data_size) {
  std::vector<const TensorInfo*> in_order;
  in_order.reserve(tensors.size());
  for (const auto& [name, info] : tensors) {
    in_order.push_back(&info);
  }
  std::ranges::sort(in_order, {}, [](const TensorInfo* info) { return std::pair(info->begin, info->end); });
  uint64_t reached = 0;
  for (const TensorInfo* info : in_order) {
    if (info->end > data_size) {
      throw tensor_error(header, *info, "truncated: its data reaches beyond the end of the file")
          .expected(fmt::format("{} bytes of data", info->end))
          .found(fmt::format("{}", data_size));
    }
    if (info->begin != reached) {
      throw tensor_error(header, *info, info->begin < reached ? "overlaps the tensor before it" : "follows a hole")
          .expected(fmt::format("data from byte {}", reached))
          .found(fmt::format("{}", info->begin));
    }
    reached = info->end;
  }
  if (reached != data_size) {
    throw Error("bytes behind the last tensor")
        .file(header.file())
        .expected(fmt::format("{} bytes of data", reached))
        .found(fmt::format("{}", data_size));
  }
}

}  // namespace

SafetensorsHeader parse_safetensors_header(std::span<const std::byte> bytes, uint64_t file_size,
                                           const std::string& file_name) {
  const std::string_view text = header_text(bytes, file_size, file_name);
  if (!text.starts_with('{')) {
    throw Error("not a safetensors file: the header is not a json object").file(file_name);
  }
  check_structure(text, file_name);
  const JsonObject json_header = JsonObject::parse(text, file_name);

  SafetensorsHeader header;
  header.data_begin = kLengthBytes + text.size();
  for (const std::string& name : json_header.keys()) {
    if (name == "__metadata__") {
      header.metadata = json_header.get_or<std::map<std::string, std::string>>(name, {});
    } else {
      header.tensors.emplace(name, read_tensor(json_header, name));
    }
  }
  check_layout(json_header, header.tensors, file_size - header.data_begin);
  return header;
}

std::string safetensors_header_bytes(std::span<const TensorInfo> tensors,
                                     const std::map<std::string, std::string>& metadata) {
  std::vector<std::string> entries;
  if (!metadata.empty()) {
    entries.push_back("\"__metadata__\":" + json(metadata).dump(-1, ' ', false, json::error_handler_t::replace));
  }
  for (const TensorInfo& info : tensors) {
    const nlohmann::ordered_json entry = {
        {"dtype", dtype_name(info.dtype).value()}, {"shape", info.shape}, {"data_offsets", {info.begin, info.end}}};
    entries.push_back(json(info.name).dump() + ":" + entry.dump());
  }
  std::string text = fmt::format("{{{}}}", fmt::join(entries, ","));
  text.resize((text.size() + kLengthBytes - 1) / kLengthBytes * kLengthBytes, ' ');
  const uint64_t length = text.size();
  std::string bytes(kLengthBytes, '\0');
  std::memcpy(bytes.data(), &length, kLengthBytes);
  return bytes + text;
}

}  // namespace retrosparse
