#pragma once
#include <cstdint>
#include <filesystem>
#include <functional>
#include <vector>

#include "data/data_stream.h"
#include "dist/process_group.h"
#include "model/model.h"
#include "sparse/head_plan.h"
#include "sparse/indexer.h"
#include "train/index_loss.h"
#include "train/learning_rate.h"
#include "train/training_loop.h"

namespace retrosparse {

struct IndexTrainingOptions {
  int64_t steps = 600;
  int64_t documents_per_step = 1;   ///< over all ranks, a multiple of their number
  int64_t rows_per_document = 512;  ///< rows of each document that are learned, up to half of them label rows
  LearningRate learning_rate{1e-3, 100, Schedule::kCosine};
  IndexTarget target = IndexTarget::kFar;
  bool dense_backbone = false;  ///< the frozen model runs dense; else as planned, which is what it will see later
  uint64_t seed = 0;
  int64_t save_every = 50;  ///< steps between two saved states
  AdamWOptions adamw;
};

/// What one step measured, over all ranks and retrieval heads.
struct IndexTrainingStep {
  int64_t step = 0;
  double kl = 0;             ///< KL(true || index) in nats, rows weighted as the target says
  double unweighted_kl = 0;  ///< every row counting 1
  double gate_loss = 0;      ///< binary cross-entropy of the far-mass estimate
  double learning_rate = 0, gradient_norm = 0;
};

/// Stage 1 of arXiv 2605.16928: trains the index and its gate against the attention of the frozen model; AdamW.
/// `indexer` holds the start and receives the result. The documents of a step are shared out to the
/// ranks, and however many these are, the step is the same but for rounding.
///
/// Writes into `folder`: metrics.jsonl, a line each step; state/, replaced atomically every `save_every` steps and when
/// the user interrupts, from which the next call with the same inputs goes on (on the CPU to the same bits); and at the
/// end indexer.safetensors. Throws Error, naming the step, for a loss that is not finite (the last good state stays),
/// for documents that are too short to have far keys, for a state of another run (naming what differs), and for a
/// number of documents that the ranks cannot share.
TrainingEnd train_index(const Model& model, const HeadPlan& plan, Indexer& indexer, DataStream& data,
                        const IndexTrainingOptions& options, const dist::ProcessGroup& group,
                        const std::filesystem::path& folder,
                        const std::function<void(const IndexTrainingStep&)>& on_step = {});

}  // namespace retrosparse
