#pragma once
#include <cstdint>
#include <filesystem>

#include "data/data_stream.h"
#include "dist/process_group.h"
#include "distill/teacher.h"
#include "model/model.h"
#include "sparse/sparse_attention.h"
#include "train/learning_rate.h"
#include "train/training_loop.h"

namespace retrosparse {

struct DistillOptions {
  int64_t steps = 600;
  int64_t documents_per_step = 8;  ///< over all ranks, a multiple of their number
  LearningRate learning_rate{3e-6, 200, Schedule::kConstant};
  int64_t save_every = 20;
  AdamWOptions adamw;
  at::ScalarType compute_dtype = at::kFloat;  ///< of the forward pass; weights and optimizer are float32
};

/// Stage 2 of arXiv 2605.16928: the projections stay fixed, all weights of the model learn to say, with sparse
/// attention, what the dense model says: KL over the teacher's likeliest tokens at each document's label rows, all of
/// which weigh the same, plus that at prompt rows, where some are learned (the paper learns none); the loss that is
/// told is that of the label rows. AdamW. `weights` (float32) holds the start and receives the result;
/// `data` gives the documents that `teacher` was asked about, from the beginning.
///
/// Writes into `folder`: metrics.jsonl {"step", "loss", ...} and state/, see TrainingLoop. Throws Error as that does.
TrainingEnd distill(const ModelConfig& config, ModelWeights& weights, const SparseModel& sparse,
                    const TeacherAnswers& teacher, DataStream& data, const DistillOptions& options,
                    const dist::ProcessGroup& group, const std::filesystem::path& folder);

/// The weights by name ("layers.3.qkv.weight"), tied ones once: what is trained.
std::map<std::string, at::Tensor> named_weights(const ModelWeights& weights);

}  // namespace retrosparse
