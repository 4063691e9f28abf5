#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "base/json.h"
#include "checkpoint/safetensors.h"
#include "checkpoint/tensor_info.h"

namespace retrosparse {

inline constexpr char kSingleFile[] = "model.safetensors";
inline constexpr char kIndexFile[] = "model.safetensors.index.json";

/// The weights of a checkpoint folder: `model.safetensors`, or shards named by `model.safetensors.index.json`. Where
/// both exist the single file counts, as in transformers. Opening maps the files and checks their headers; values are
/// read when they are used.
class Checkpoint {
 public:
  /// Error: no such folder, no weights in it (saying what was looked for), a broken file or index, a shard that is
  /// missing or lies outside the folder, a tensor that its shard does not have.
  static Checkpoint open(const std::filesystem::path& dir);

  std::vector<std::string> names() const;  ///< in alphabetical order
  bool has(const std::string& name) const { return file_of_.contains(name); }

  /// dtype, shape and size without reading the values. Error: no such tensor.
  const TensorInfo& info(const std::string& name) const;

  /// The tensor on the CPU, memory-mapped and read-only: see SafetensorsFile::tensor. Error: no such tensor.
  at::Tensor tensor(const std::string& name) const;

  /// The name of the file in dir() that holds the tensor. Error: no such tensor.
  const std::string& file_of(const std::string& name) const;

  /// Tensors that lie in a shard although the index does not list them there; they are not part of the checkpoint.
  /// Worth a warning: with an index that was edited by hand or mixed up shards they tell what happened.
  const std::vector<std::string>& surplus() const { return surplus_; }

  const std::filesystem::path& dir() const { return dir_; }
  uint64_t total_bytes() const;  ///< of the tensors' data

 private:
  void add_index(const JsonObject& index);
  const SafetensorsFile& shard_of(const std::string& name) const;

  std::filesystem::path dir_;
  std::map<std::string, SafetensorsFile> shards_;  // by file name
  std::map<std::string, std::string> file_of_;     // tensor name -> file name
  std::vector<std::string> surplus_;
};

/// The tensor name -> file name table of a model.safetensors.index.json. Error: no "weight_map", or a file name in it
/// that is not that of a file beside the index ("../x", "/x", "sub/x").
std::map<std::string, std::string> read_weight_map(const JsonObject& index);

}  // namespace retrosparse
