#include "checkpoint/checkpoint.h"

#include <fmt/format.h>

#include <set>
#include <utility>

#include "base/error.h"
#include "base/suggest.h"

namespace retrosparse {

namespace fs = std::filesystem;

namespace {

/// Without an exception for what cannot be looked at, as in a folder without permission.
bool is_there(const fs::path& path) {
  std::error_code ignored;
  return fs::exists(path, ignored);
}

/// Says what was looked for, and what lies there instead where that is a format we know of.
Error no_weights(const fs::path& dir) {
  Error error = Error("no weights in this folder").file(dir.string());
  error.expected(fmt::format("{} or {}", kSingleFile, kIndexFile));
  for (const char* unsupported :
       {"pytorch_model.bin", "pytorch_model.bin.index.json", "tf_model.h5", "consolidated.00.pth"}) {
    if (is_there(dir / unsupported)) {
      return error.found(unsupported).hint("only safetensors are read; convert it with transformers: save_pretrained");
    }
  }
  return error;
}

/// "a, b, c and 7 more"
std::string some_of(const std::set<std::string>& names) {
  constexpr size_t kShown = 3;
  std::string text;
  size_t shown = 0;
  for (auto name = names.begin(); name != names.end() && shown < kShown; ++name, ++shown) {
    text += (shown > 0 ? ", " : "") + *name;
  }
  return names.size() > shown ? fmt::format("{} and {} more", text, names.size() - shown) : text;
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
  std::error_code ignored;
  if (!fs::is_directory(dir, ignored)) {
    throw Error(is_there(dir) ? "not a folder" : "no such folder").file(dir.string());
  }
  Checkpoint checkpoint;
  checkpoint.dir_ = dir;
  if (is_there(dir / kSingleFile)) {
    const SafetensorsFile& file =
        checkpoint.shards_.emplace(kSingleFile, SafetensorsFile(dir / kSingleFile)).first->second;
    for (const auto& [name, info] : file.tensors()) {
      checkpoint.file_of_.emplace(name, kSingleFile);
    }
  } else if (is_there(dir / kIndexFile)) {
    checkpoint.add_index(JsonObject::read(dir / kIndexFile));
  } else {
    throw no_weights(dir);
  }
  return checkpoint;
}

void Checkpoint::add_index(const JsonObject& index) {
  file_of_ = read_weight_map(index);
  std::set<std::string> files, missing_files, missing_tensors;
  for (const auto& [name, file] : file_of_) {
    if (files.insert(file).second && !is_there(dir_ / file)) {
      missing_files.insert(file);
    }
  }
  if (!missing_files.empty()) {
    throw Error("names files that are not in the folder").file(index.file()).found(some_of(missing_files));
  }
  for (const std::string& file : files) {
    shards_.emplace(file, SafetensorsFile(dir_ / file));
  }
  for (const auto& [name, file] : file_of_) {
    if (!shards_.at(file).tensors().contains(name)) {
      missing_tensors.insert(fmt::format("'{}' in {}", name, file));
    }
  }
  if (!missing_tensors.empty()) {
    throw Error("lists tensors that their files do not have").file(index.file()).found(some_of(missing_tensors));
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
