#include "checkpoint/safetensors_writer.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>
#include <span>
#include <stdexcept>
#include <tuple>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/file.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/safetensors_header.h"
#include "checkpoint/tensor_info.h"

namespace retrosparse {

namespace fs = std::filesystem;

namespace {

using NamedTensor = std::pair<const std::string, at::Tensor>;
using Metadata = std::map<std::string, std::string>;

/// Error for a tensor that the format cannot hold.
void check_writable(const fs::path& path, const std::map<std::string, at::Tensor>& tensors) {
  for (const auto& [name, tensor] : tensors) {
    const Error refusal = Error("cannot be written to safetensors").file(path.string()).tensor(name);
    if (name == "__metadata__") {
      throw Error(refusal).found("a name that the format reserves");
    }
    if (!tensor.defined()) {
      throw Error(refusal).found("an undefined tensor");
    }
    if (tensor.layout() != at::kStrided || tensor.is_quantized() || tensor.is_meta()) {
      throw Error(refusal).expected("a dense tensor that holds data").found(tensor.toString());
    }
    if (!dtype_name(tensor.scalar_type())) {
      throw Error(refusal).expected("a dtype that the format has").found(c10::toString(tensor.scalar_type()));
    }
  }
}

/// The order in which the format's own library lays tensors out.
std::vector<const NamedTensor*> layout_order(const std::vector<const NamedTensor*>& tensors) {
  std::vector<const NamedTensor*> order = tensors;
  std::ranges::sort(order, {}, [](const NamedTensor* named) {
    return std::tuple<int, const std::string&>(dtype_rank(named->second.scalar_type()), named->first);
  });
  return order;
}

/// The file with everything written into it, not yet in place.
AtomicFile stage(const fs::path& path, const std::vector<const NamedTensor*>& tensors, const Metadata& metadata) {
  const std::vector<const NamedTensor*> order = layout_order(tensors);
  std::vector<TensorInfo> infos;
  uint64_t offset = 0;
  for (const NamedTensor* named : order) {
    const auto& [name, tensor] = *named;
    infos.push_back({name, tensor.scalar_type(), tensor.sizes().vec(), offset, offset + tensor.nbytes()});
    offset += tensor.nbytes();
  }
  AtomicFile file(path);
  file.write(safetensors_header_bytes(infos, metadata));
  for (const NamedTensor* named : order) {
    const at::Tensor plain = named->second.detach().cpu().resolve_conj().resolve_neg().contiguous();
    file.write(std::span(static_cast<const std::byte*>(plain.const_data_ptr()), plain.nbytes()));
  }
  return file;
}

struct Shard {
  std::string file_name;
  std::vector<const NamedTensor*> tensors;
};

/// Fills shards with the tensors in turn, each up to `limit` bytes, and names them.
std::vector<Shard> plan_shards(const std::map<std::string, at::Tensor>& tensors, uint64_t limit) {
  std::vector<Shard> shards(1);
  uint64_t used = 0;
  for (const NamedTensor& named : tensors) {
    const uint64_t bytes = named.second.nbytes();
    if (!shards.back().tensors.empty() && (bytes > limit || used > limit - bytes)) {
      shards.emplace_back();
      used = 0;
    }
    shards.back().tensors.push_back(&named);
    used += bytes;
  }
  for (size_t i = 0; i < shards.size(); ++i) {
    shards[i].file_name =
        shards.size() == 1 ? kSingleFile : fmt::format("model-{:05}-of-{:05}.safetensors", i + 1, shards.size());
  }
  return shards;
}

std::string index_text(const std::vector<Shard>& shards) {
  uint64_t total_size = 0;
  std::map<std::string, std::string> weight_map;
  for (const Shard& shard : shards) {
    for (const NamedTensor* named : shard.tensors) {
      weight_map[named->first] = shard.file_name;
      total_size += named->second.nbytes();
    }
  }
  const nlohmann::ordered_json index = {{"metadata", {{"total_size", total_size}}}, {"weight_map", weight_map}};
  return index.dump(2) + "\n";
}

/// Refuses to leave weight files of another layout beside the new ones: readers would mix them up.
void check_no_other_weights(const fs::path& dir, const std::vector<Shard>& shards) {
  std::set<std::string> written;
  for (const Shard& shard : shards) {
    written.insert(shard.file_name);
  }
  if (shards.size() > 1) {
    written.insert(kIndexFile);
  }
  std::error_code problem;
  const fs::directory_iterator entries(dir, problem);
  if (problem) {
    throw Error("cannot read the folder: " + problem.message()).file(dir.string());
  }
  for (const fs::directory_entry& entry : entries) {
    const std::string name = entry.path().filename().string();
    const bool weights = (name.starts_with("model") && name.ends_with(".safetensors")) || name == kIndexFile;
    if (weights && !written.contains(name)) {
      throw Error("the folder already holds other weights")
          .file(dir.string())
          .found(name)
          .hint("write into a new folder, or remove them first");
    }
  }
}

}  // namespace

void write_safetensors(const fs::path& path, const std::map<std::string, at::Tensor>& tensors,
                       const Metadata& metadata) {
  check_writable(path, tensors);
  std::vector<const NamedTensor*> all;
  for (const NamedTensor& named : tensors) {
    all.push_back(&named);
  }
  stage(path, all, metadata).commit();
}

void write_sharded(const fs::path& dir, const std::map<std::string, at::Tensor>& tensors, uint64_t max_shard_bytes,
                   const Metadata& metadata) {
  if (max_shard_bytes == 0) {
    throw std::logic_error("write_sharded: max_shard_bytes is 0");
  }
  check_writable(dir, tensors);
  const std::vector<Shard> shards = plan_shards(tensors, max_shard_bytes);
  std::error_code problem;
  fs::create_directories(dir, problem);
  if (problem) {
    throw Error("cannot create the folder: " + problem.message()).file(dir.string());
  }
  check_no_other_weights(dir, shards);

  std::vector<AtomicFile> staged;
  staged.reserve(shards.size() + 1);
  for (const Shard& shard : shards) {
    staged.push_back(stage(dir / shard.file_name, shard.tensors, metadata));
  }
  if (shards.size() > 1) {
    staged.emplace_back(dir / kIndexFile).write(index_text(shards));
  }
  for (AtomicFile& file : staged) {
    file.commit();
  }
}

}  // namespace retrosparse
