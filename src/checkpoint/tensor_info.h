#pragma once
#include <c10/core/ScalarType.h>

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace retrosparse {

/// What a safetensors header says about one tensor.
struct TensorInfo {
  std::string name;
  at::ScalarType dtype = at::ScalarType::Undefined;
  std::vector<int64_t> shape;   // row-major; empty for a scalar
  uint64_t begin = 0, end = 0;  // its bytes, counted from the start of the file's data section

  int64_t numel() const;  ///< elements: the product of the shape, 1 for a scalar
  uint64_t bytes() const { return end - begin; }
};

/// The format's name of a dtype: "BF16", "F32", "F8_E4M3"...; none for a dtype that safetensors cannot hold.
std::optional<std::string_view> dtype_name(at::ScalarType dtype);

/// The dtype that the format calls `name`; none for an unknown name.
std::optional<at::ScalarType> dtype_from_name(std::string_view name);

/// Where a dtype stands in the order of alignment in which the format's own library lays tensors out, 0 first: wide
/// dtypes before narrow ones, so that every tensor is aligned to its element. Only for dtypes that have a name.
int dtype_rank(at::ScalarType dtype);

/// "[64, 32]", for messages.
std::string shape_text(std::span<const int64_t> shape);

}  // namespace retrosparse
