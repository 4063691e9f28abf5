#pragma once
#include <ATen/core/Tensor.h>

#include <filesystem>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <string>

#include "data/data_stream.h"
#include "dist/process_group.h"
#include "train/adamw.h"

namespace retrosparse {

enum class TrainingEnd { kFinished, kInterrupted };

/// What the two stages of training have in common: steps, metrics, a state to go on from.
struct TrainingLoop {
  std::string name;  ///< "train index", for progress and messages
  int64_t steps = 0;
  int64_t save_every = 50;                       ///< steps between two saved states
  int64_t documents_per_step = 1;                ///< over all ranks, a multiple of their number
  std::filesystem::path folder;                  ///< of metrics.jsonl and state/
  nlohmann::json settings;                       ///< all that must not change between two parts of one run
  std::map<std::string, at::Tensor> parameters;  ///< what is trained, by name: saved, and restored in place

  /// Runs the steps that are left: `step(n)` trains, and returns what it measured, in the order of the metrics' lines:
  /// the loss first, and "gradient_norm" among them. Writes into `folder`: metrics.jsonl, a line each step with its
  /// number and seconds besides; state/, replaced atomically every `save_every` steps and when the user interrupts,
  /// from which the next call goes on, on the CPU to the same bits.
  ///
  /// Throws Error, naming the step, for a loss or gradient that is not finite (the last good state stays), for a state
  /// of another run (naming what differs), and for a number of documents that the ranks cannot share.
  TrainingEnd run(AdamW& optimizer, DataStream& data, const dist::ProcessGroup& group,
                  const std::function<nlohmann::ordered_json(int64_t step)>& step) const;

 private:
  int64_t restore(AdamW& optimizer, DataStream& data) const;  // the step to go on at
};

}  // namespace retrosparse
