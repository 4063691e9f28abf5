#include "export/base_identity.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstddef>
#include <span>

#include "base/file.h"
#include "base/hash.h"

namespace retrosparse {

std::string base_identity(const Checkpoint& checkpoint) {
  Hasher hasher;
  hasher.update(read_text(checkpoint.dir() / "config.json"));
  for (const std::string& name : checkpoint.names()) {
    const TensorInfo& info = checkpoint.info(name);
    hasher.update(fmt::format("\n{} {} {}\n", name, *dtype_name(info.dtype), shape_text(info.shape)));
    const at::Tensor tensor = checkpoint.tensor(name);
    hasher.update(std::span(static_cast<const std::byte*>(tensor.const_data_ptr()), tensor.nbytes()));
  }
  return hasher.hex();
}

}  // namespace retrosparse
