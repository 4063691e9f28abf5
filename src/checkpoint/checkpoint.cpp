#include "checkpoint/checkpoint.h"

#include <fmt/format.h>

#include <set>
#include <utility>

#include "base/error.h"
#include "base/suggest.h"

namespace retrosparse {

namespace fs = std::filesystem;

namespace {

/// Says what was looked for, and what lies there instead where that is a format we know of.
Error no_weights(const fs::path& dir) {
  Error error = Error("no weights in this folder").file(dir.string());
  error.expected(fmt::format("{} or {}", kSingleFile, kIndexFile));
  for (const char* unsupported :
       {"pytorch_model.bin", "pytorch_model.bin.index.json", "tf_model.h5", "consolidated.00.pth"}) {
    if (fs::exists(dir / unsupported)) {
      return error.found(unsupported).hint("only safetensors are read; convert it with transformers: save_pretrained");
    }
  }
  return error;
}

bool is_plain_file_name(const std::string& name) {
  return !name.empty() && name != "." && name != ".." && name.find_first_of(std::string_view("/\0", 2)) == name.npos;
}

}  // namespace

std::map<std::string, std::string> read_weight_map(const JsonObject& index) {
  auto weight_map = index.get<std::map<std::string, std::string>>("weight_map");
  for (const auto& [name, file] : weight_map) {
    if (!is_plain_file_name(file)) {
      throw index.error("weight_map." + name, "not the name of a file in this folder").found("'" + file + "'");
    }
  }
  return weight_map;
}

Checkpoint Checkpoint::open(const fs::path& dir) {
  if (!fs::is_directory(dir)) {
    throw Error(fs::exists(dir) ? "not a folder" : "no such folder").file(dir.string());
  }
  Checkpoint checkpoint;
  checkpoint.dir_ = dir;
  if (fs::exists(dir / kSingleFile)) {
    const SafetensorsFile& file =
        checkpoint.shards_.emplace(kSingleFile, SafetensorsFile(dir / kSingleFile)).first->second;
    for (const auto& [name, info] : file.tensors()) {
      checkpoint.file_of_.emplace(name, kSingleFile);
    }
  } else if (fs::exists(dir / kIndexFile)) {
    checkpoint.add_index(JsonObject::read(dir / kIndexFile));
  } else {
    throw no_weights(dir);
  }
  return checkpoint;
}

void Checkpoint::add_index(const JsonObject& index) {
  file_of_ = read_weight_map(index);
  for (const auto& [name, file] : file_of_) {
    if (!shards_.contains(file)) {
      if (!fs::exists(dir_ / file)) {
        throw index.error("weight_map." + name, "names a file that does not exist").found("'" + file + "'");
      }
      shards_.emplace(file, SafetensorsFile(dir_ / file));
    }
    if (!shards_.at(file).tensors().contains(name)) {
      throw Error("missing, although the index says it is here").file((dir_ / file).string()).tensor(name);
    }
  }
  for (const auto& [file, shard] : shards_) {
    for (const auto& [name, info] : shard.tensors()) {
      const auto listed = file_of_.find(name);
      if (listed == file_of_.end() || listed->second != file) {
        surplus_.push_back(name);
      }
    }
  }
}

std::vector<std::string> Checkpoint::names() const {
  std::vector<std::string> result;
  for (const auto& [name, file] : file_of_) {
    result.push_back(name);
  }
  return result;
}

const std::string& Checkpoint::file_of(const std::string& name) const {
  const auto entry = file_of_.find(name);
  if (entry == file_of_.end()) {
    throw Error("not in this checkpoint").file(dir_.string()).tensor(name).hint(did_you_mean(name, names()));
  }
  return entry->second;
}

const SafetensorsFile& Checkpoint::shard_of(const std::string& name) const {
  return shards_.at(file_of(name));
}

const TensorInfo& Checkpoint::info(const std::string& name) const {
  return shard_of(name).tensors().at(name);
}

at::Tensor Checkpoint::tensor(const std::string& name) const {
  return shard_of(name).tensor(name);
}

uint64_t Checkpoint::total_bytes() const {
  uint64_t sum = 0;
  for (const auto& [name, file] : file_of_) {
    sum += info(name).bytes();
  }
  return sum;
}

}  // namespace retrosparse
