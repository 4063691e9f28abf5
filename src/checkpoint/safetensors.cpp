#include "checkpoint/safetensors.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>

#include <algorithm>
#include <vector>

#include "base/error.h"
#include "base/suggest.h"

namespace retrosparse {

SafetensorsFile::SafetensorsFile(const std::filesystem::path& path)
    : file_(path), header_(parse_safetensors_header(file_.data(), file_.size(), path.string())) {}

at::Tensor SafetensorsFile::tensor(const std::string& name) const {
  const auto entry = header_.tensors.find(name);
  if (entry == header_.tensors.end()) {
    std::vector<std::string> names;
    for (const auto& [known, info] : header_.tensors) {
      names.push_back(known);
    }
    throw Error("not in this file").file(file_.path().string()).tensor(name).hint(did_you_mean(name, names));
  }
  const TensorInfo& info = entry->second;
  const std::byte* data = file_.data().data() + header_.data_begin + info.begin;
  if (reinterpret_cast<uintptr_t>(data) % c10::elementSize(info.dtype) != 0) {
    at::Tensor copy = at::empty(info.shape, info.dtype);
    std::copy_n(data, info.bytes(), static_cast<std::byte*>(copy.mutable_data_ptr()));
    return copy;
  }
  // torch has no read-only tensors; the cast is what "READ-ONLY" in the header is about.
  return at::from_blob(
      const_cast<std::byte*>(data), info.shape, [keep_alive = file_](void*) {}, info.dtype);
}

}  // namespace retrosparse
