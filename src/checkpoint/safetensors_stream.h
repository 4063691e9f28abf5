#pragma once
#include <ATen/core/Tensor.h>
#include <c10/core/ScalarType.h>

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "base/file.h"

namespace retrosparse {

/// Writes a safetensors file that holds one tensor, row by row, for tensors that are larger than memory should be asked
/// to hold. Shape and dtype are said first; append() adds the next rows; commit() puts the whole file in place. Without
/// a commit whatever existed under the name stays as it was. The same bytes as write_safetensors of the whole tensor.
class SafetensorsStream {
 public:
  /// Error: not writable, or a dtype that the format does not have.
  SafetensorsStream(const std::filesystem::path& path, const std::string& name, at::ScalarType dtype,
                    std::vector<int64_t> shape, const std::map<std::string, std::string>& metadata = {});

  /// Adds rows [n, shape[1], ...] of the tensor's dtype, on any device. Error: disk full and the like.
  void append(const at::Tensor& rows);

  /// Error of the system. Every row has to be there.
  void commit();

 private:
  AtomicFile file_;
  at::ScalarType dtype_;
  std::vector<int64_t> shape_;
  int64_t rows_written_ = 0;
};

}  // namespace retrosparse
