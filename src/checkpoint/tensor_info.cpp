#include "checkpoint/tensor_info.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>

namespace retrosparse {

namespace {

struct NamedDtype {
  std::string_view name;
  at::ScalarType dtype;
};

/// In the order in which the format's own library lays tensors out.
constexpr std::array kDtypes = {
    NamedDtype{"U64", at::ScalarType::UInt64},
    NamedDtype{"I64", at::ScalarType::Long},
    NamedDtype{"F64", at::ScalarType::Double},
    NamedDtype{"C64", at::ScalarType::ComplexFloat},
    NamedDtype{"F32", at::ScalarType::Float},
    NamedDtype{"U32", at::ScalarType::UInt32},
    NamedDtype{"I32", at::ScalarType::Int},
    NamedDtype{"BF16", at::ScalarType::BFloat16},
    NamedDtype{"F16", at::ScalarType::Half},
    NamedDtype{"U16", at::ScalarType::UInt16},
    NamedDtype{"I16", at::ScalarType::Short},
    NamedDtype{"F8_E5M2FNUZ", at::ScalarType::Float8_e5m2fnuz},
    NamedDtype{"F8_E4M3FNUZ", at::ScalarType::Float8_e4m3fnuz},
    NamedDtype{"F8_E8M0", at::ScalarType::Float8_e8m0fnu},
    NamedDtype{"F8_E4M3", at::ScalarType::Float8_e4m3fn},
    NamedDtype{"F8_E5M2", at::ScalarType::Float8_e5m2},
    NamedDtype{"I8", at::ScalarType::Char},
    NamedDtype{"U8", at::ScalarType::Byte},
    NamedDtype{"BOOL", at::ScalarType::Bool},
};

}  // namespace

int64_t TensorInfo::numel() const {
  int64_t product = 1;
  for (const int64_t size : shape) {
    product *= size;
  }
  return product;
}

std::optional<std::string_view> dtype_name(at::ScalarType dtype) {
  const auto entry = std::find_if(kDtypes.begin(), kDtypes.end(), [&](const auto& e) { return e.dtype == dtype; });
  return entry == kDtypes.end() ? std::nullopt : std::optional(entry->name);
}

std::optional<at::ScalarType> dtype_from_name(std::string_view name) {
  const auto entry = std::find_if(kDtypes.begin(), kDtypes.end(), [&](const auto& e) { return e.name == name; });
  return entry == kDtypes.end() ? std::nullopt : std::optional(entry->dtype);
}

int dtype_rank(at::ScalarType dtype) {
  const auto entry = std::find_if(kDtypes.begin(), kDtypes.end(), [&](const auto& e) { return e.dtype == dtype; });
  return static_cast<int>(entry - kDtypes.begin());
}

std::string shape_text(std::span<const int64_t> shape) {
  return fmt::format("[{}]", fmt::join(shape, ", "));
}

}  // namespace retrosparse
