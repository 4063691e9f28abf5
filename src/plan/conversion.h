#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "model/config.h"
#include "plan/machine.h"
#include "recipe/recipe.h"

namespace retrosparse {

/// What a conversion is about, as far as its cost goes.
struct ConversionPlan {
  ModelConfig config;
  Recipe recipe;
  double element_size = 4;  ///< bytes of a weight and activation: 4 (float32) or 2
  int64_t prefill_chunk = 4096;
  Machine machine;
  /// [layer], ascending: which heads retrieve, as `profile` found; assumed_heads() before.
  std::vector<std::vector<int64_t>> retrieval_heads;
};

/// A part of the memory that is held at a stage's peak.
struct MemoryTerm {
  std::string what;  ///< "keys and values of 32768 tokens"
  double bytes = 0;
};

/// What one stage costs on one machine with one process.
struct StageCost {
  std::string name;
  double tokens = 0;    ///< that go through a model, forward passes over all samples
  double flops = 0;     ///< of products and attention
  double bytes = 0;     ///< moved between memory and processor
  double launches = 0;  ///< tensor operations
  double seconds = 0;   ///< see src/plan/work.h; reading and tokenizing text is not counted
  double peak_bytes = 0;
  std::string peak_at;            ///< what is going on at the peak
  std::vector<MemoryTerm> terms;  ///< of the peak; they add up to peak_bytes
  bool fits = true;               ///< into kUsableMemory of the machine
  std::string assumption;         ///< what of it depends on the data; empty where nothing does
};

/// The stages that this recipe asks for, in order. What only the data decide is taken at its most where it has a bound
/// (label rows, rounds of calibration), and said in `assumption`.
std::vector<StageCost> plan_conversion(const ConversionPlan& plan);

/// Which heads retrieve, before anything was measured: as many as the recipe's ratio asks for, in few layers, since
/// that is how they were found in the models that we looked at (nano: 4 of 4 in one layer; mini: 4 and 3 of 7) and
/// costs the most memory: two thirds of what is left in one layer after the other.
std::vector<std::vector<int64_t>> assumed_heads(const ModelConfig& config, const Recipe::Plan& plan);

}  // namespace retrosparse
