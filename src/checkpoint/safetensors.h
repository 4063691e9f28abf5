#pragma once
#include <ATen/core/Tensor.h>

#include <filesystem>
#include <map>
#include <string>

#include "base/file.h"
#include "checkpoint/safetensors_header.h"
#include "checkpoint/tensor_info.h"

namespace retrosparse {

/// A safetensors file opened for reading. Nothing but the header is read until a tensor's values are used.
class SafetensorsFile {
 public:
  /// Maps the file and checks its header. Error: see MappedFile and parse_safetensors_header.
  explicit SafetensorsFile(const std::filesystem::path& path);

  const std::map<std::string, TensorInfo>& tensors() const { return header_.tensors; }
  const std::map<std::string, std::string>& metadata() const { return header_.metadata; }
  const std::filesystem::path& path() const { return file_.path(); }

  /// The tensor as it lies in the file: on the CPU, contiguous, with the file's dtype and shape. Its memory is the
  /// mapped file, which it keeps alive, and READ-ONLY: clone() before writing into it. (In the odd file whose data is
  /// not aligned to the dtype, a copy.) Error: no such tensor.
  at::Tensor tensor(const std::string& name) const;

 private:
  MappedFile file_;
  SafetensorsHeader header_;
};

}  // namespace retrosparse
