#include "train/train_index.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/zeros.h>
#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <nlohmann/json.hpp>
#include <random>

#include "base/error.h"
#include "checkpoint/safetensors_writer.h"
#include "model/planned_attention.h"

namespace retrosparse {
namespace {

std::vector<at::Tensor> all_parameters(const Indexer& indexer) {
  std::vector<at::Tensor> parameters = indexer.projections();
  const std::vector<at::Tensor> gates = indexer.gates();
  parameters.insert(parameters.end(), gates.begin(), gates.end());
  return parameters;
}

// What must be the same when a run goes on.
nlohmann::json settings_of(const HeadPlan& plan, const Indexer& indexer, const IndexTrainingOptions& options) {
  return {{"steps", options.steps},
          {"documents_per_step", options.documents_per_step},
          {"rows_per_document", options.rows_per_document},
          {"learning_rate", options.learning_rate.peak},
          {"warmup", options.learning_rate.warmup},
          {"schedule", name_of(options.learning_rate.schedule)},
          {"target", options.target == IndexTarget::kFar ? "far" : "full"},
          {"dense_backbone", options.dense_backbone},
          {"seed", options.seed},
          {"beta1", options.adamw.beta1},
          {"beta2", options.adamw.beta2},
          {"eps", options.adamw.eps},
          {"weight_decay", options.adamw.weight_decay},
          {"max_grad_norm", options.adamw.max_grad_norm},
          {"retrieval_heads", plan.retrieval_heads},
          {"window", plan.local.window},
          {"sink_tokens", plan.local.sink_tokens},
          {"index_dim", indexer.index_dim}};
}

// Sums over all layers, heads and rows: weighted KL, weight, KL, gate loss, rows. float64 [5] on the CPU.
at::Tensor total_statistics(const IndexLoss& loss) {
  at::Tensor sums = at::zeros({5}, at::kDouble);
  for (const IndexStatistics& layer : loss.statistics()) {
    const double rows = static_cast<double>(layer.rows * layer.kl.numel());
    sums += at::stack({layer.weighted_kl.sum(), layer.weight.sum(), layer.kl.sum(), layer.gate_loss.sum(),
                       at::full({}, rows, at::kDouble)});
  }
  return sums;
}

nlohmann::ordered_json to_json(const IndexTrainingStep& step) {
  return {{"kl", step.kl},
          {"unweighted_kl", step.unweighted_kl},
          {"gate_loss", step.gate_loss},
          {"learning_rate", step.learning_rate},
          {"gradient_norm", step.gradient_norm}};
}

// The rows of a document that are learned: half of them those that predict its label tokens, where it has so many,
// since answering is what retrieval is for and rare among all rows; the rest from anywhere.
std::vector<int64_t> rows_to_learn(const Sample& document, int64_t first, int64_t count, uint64_t seed) {
  std::vector<int64_t> answers;
  for (const TokenRange& label : document.labels) {
    for (int64_t row = std::max(label.begin - 1, first); row < label.end - 1; ++row) {
      answers.push_back(row);
    }
  }
  std::vector<int64_t> rows, anywhere = sample_rows(first, static_cast<int64_t>(document.ids.size()), count, seed);
  std::mt19937_64 random(seed);
  std::ranges::sample(answers, std::back_inserter(rows), count / 2, random);
  std::ranges::shuffle(anywhere, random);
  for (const int64_t row : anywhere) {
    if (static_cast<int64_t>(rows.size()) < count && std::ranges::count(rows, row) == 0) {
      rows.push_back(row);
    }
  }
  std::ranges::sort(rows);
  return rows;
}

// One document: the frozen model runs forward, and the loss collects gradients on the way. Returns total_statistics.
at::Tensor learn_document(const Model& model, const HeadPlan& plan, const Indexer& indexer, const Sample& document,
                          const IndexTrainingOptions& options, uint64_t row_seed) {
  const int64_t first = first_far_row(plan.local), length = static_cast<int64_t>(document.ids.size());
  if (length <= first) {
    throw Error("documents are too short for this window: no token has far keys")
        .expected(fmt::format("more than {} tokens", first))
        .found(std::to_string(length));
  }
  IndexLoss loss(plan, indexer, options.target, rows_to_learn(document, first, options.rows_per_document, row_seed),
                 1.0 / static_cast<double>(options.documents_per_step));
  const at::NoGradGuard frozen;
  PlannedAttention planned(plan.windows(), plan.num_key_value_heads, model.device());
  model.forward(document.ids, {.attention = options.dense_backbone ? nullptr : &planned, .observers = {&loss}});
  return total_statistics(loss);
}

// This rank's documents of a step, and the sum of all ranks' gradients.
IndexTrainingStep run_step(const Model& model, const HeadPlan& plan, const Indexer& indexer,
                           const std::vector<at::Tensor>& parameters, DataStream& data,
                           const IndexTrainingOptions& options, const dist::ProcessGroup& group, int64_t step) {
  at::Tensor sums = at::zeros({5}, at::kDouble);
  for (int64_t place = group.rank(); place < options.documents_per_step; place += group.world_size()) {
    const uint64_t row_seed = options.seed + static_cast<uint64_t>(step * options.documents_per_step + place);
    sums += learn_document(model, plan, indexer, data.next(), options, row_seed);
  }
  for (const at::Tensor& parameter : parameters) {
    group.all_reduce_sum(parameter.grad());
  }
  sums = sums.to(model.device());
  group.all_reduce_sum(sums);
  sums = sums.cpu();
  const double* sum = sums.const_data_ptr<double>();
  return {.step = step, .kl = sum[0] / sum[1], .unweighted_kl = sum[2] / sum[4], .gate_loss = sum[3] / sum[4]};
}

}  // namespace

TrainingEnd train_index(const Model& model, const HeadPlan& plan, Indexer& indexer, DataStream& data,
                        const IndexTrainingOptions& options, const dist::ProcessGroup& group,
                        const std::filesystem::path& folder,
                        const std::function<void(const IndexTrainingStep&)>& on_step) {
  AdamW optimizer(all_parameters(indexer), options.adamw);
  TrainingLoop loop;
  loop.name = "train index";
  loop.steps = options.steps;
  loop.save_every = options.save_every;
  loop.documents_per_step = options.documents_per_step;
  loop.folder = folder;
  loop.settings = settings_of(plan, indexer, options);
  loop.parameters = indexer.named_tensors();
  const TrainingEnd end = loop.run(optimizer, data, group, [&](int64_t step) {
    IndexTrainingStep measured = run_step(model, plan, indexer, optimizer.parameters(), data, options, group, step);
    measured.learning_rate = options.learning_rate.at(step, options.steps);
    measured.gradient_norm = optimizer.step(measured.learning_rate);
    if (on_step) {
      on_step(measured);
    }
    return to_json(measured);
  });
  if (end == TrainingEnd::kFinished && group.is_main()) {
    std::map<std::string, at::Tensor> tensors;
    for (const auto& [name, tensor] : indexer.named_tensors()) {
      tensors[name] = tensor.detach();
    }
    write_safetensors(folder / "indexer.safetensors", tensors);
  }
  group.barrier();
  return end;
}

}  // namespace retrosparse
