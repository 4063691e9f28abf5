#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>

#include "data/data_stream.h"

namespace retrosparse {

/// Everything that a stopped training needs to go on: written and replaced as one folder, so that a kill at any moment
/// leaves either the old state or the new one.
struct TrainingState {
  int64_t next_step = 0;
  DataState data;
  std::string settings;                       ///< json of all that must not change between two parts of one run
  std::map<std::string, at::Tensor> tensors;  ///< parameters and optimizer

  void save(const std::filesystem::path& folder) const;

  /// Nothing where there is no such folder. Throws Error for one that is damaged.
  static std::optional<TrainingState> load(const std::filesystem::path& folder);
};

/// Of a metrics.jsonl the line of each step before `next_step`: what a killed run wrote beyond its last state is
/// written again. Throws Error where a line is missing or not that step's.
std::string kept_metrics(const std::filesystem::path& path, int64_t next_step);

}  // namespace retrosparse
