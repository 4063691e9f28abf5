#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>

namespace retrosparse {

/// Writes one safetensors file, atomically (see AtomicFile) and one tensor at a time. Tensors may be on any device and
/// have any strides; views that share memory are written as often as they are named. The same input gives the same
/// bytes, which are also those of the format's own library: wide dtypes first, then by name, the header padded to 8.
/// (That library puts metadata into a random order, we put it by name.)
/// Error: not writable, disk full, a tensor that is undefined, without data, sparse, quantised, of a dtype that the
/// format does not have, or named __metadata__.
void write_safetensors(const std::filesystem::path& path, const std::map<std::string, at::Tensor>& tensors,
                       const std::map<std::string, std::string>& metadata = {});

/// Writes a checkpoint's weights into the folder `dir` (made where it is missing):
///   model.safetensors                           where everything fits into max_shard_bytes of tensor data, else
///   model-00001-of-0000N.safetensors ...        filled by name in turn; a tensor larger than the limit gets its own,
///   and model.safetensors.index.json                {"metadata": {"total_size": bytes}, "weight_map": {name: file}}
/// All shards are written before the first of them is put in place, the index comes last; so a full disk leaves what
/// existed alone. (A crash while they are put in place can still mix old and new in a folder that is written again;
/// where that matters, write into AtomicFolder::staging().) Error: as above, and a folder that holds weight files of
/// another layout, since these would be left over beside the new ones.
void write_sharded(const std::filesystem::path& dir, const std::map<std::string, at::Tensor>& tensors,
                   uint64_t max_shard_bytes, const std::map<std::string, std::string>& metadata = {{"format", "pt"}});

}  // namespace retrosparse
