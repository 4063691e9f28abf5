#include "train/train_index.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/zeros.h>
#include <fmt/format.h>

#include <chrono>
#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/file.h"
#include "base/interrupt.h"
#include "base/log.h"
#include "base/progress.h"
#include "checkpoint/safetensors_writer.h"
#include "model/planned_attention.h"
#include "train/training_state.h"

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
          {"learning_rate", options.learning_rate},
          {"warmup", options.warmup},
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

nlohmann::ordered_json line_of(const IndexTrainingStep& step) {
  return {{"step", step.step},
          {"kl", step.kl},
          {"unweighted_kl", step.unweighted_kl},
          {"gate_loss", step.gate_loss},
          {"learning_rate", step.learning_rate},
          {"gradient_norm", step.gradient_norm},
          {"seconds", step.seconds}};
}

// All ranks stop at the same step, whichever of them was asked to.
bool any_rank_interrupted(const dist::ProcessGroup& group) {
  const at::Tensor asked =
      at::full({}, InterruptGuard::requested() ? 1.0 : 0.0, at::TensorOptions(group.device()).dtype(at::kFloat));
  group.all_reduce_sum(asked);
  return asked.item<float>() > 0;
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
  IndexLoss loss(plan, indexer, options.target, sample_rows(first, length, options.rows_per_document, row_seed),
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

// Tells what differs between the settings of a saved state and these.
void check_settings(const std::string& saved_text, const nlohmann::json& settings,
                    const std::filesystem::path& state_folder) {
  const nlohmann::json saved = nlohmann::json::parse(saved_text, nullptr, /*allow_exceptions=*/false);
  for (const auto& [key, value] : settings.items()) {
    const nlohmann::json old = saved.is_object() ? saved.value(key, nlohmann::json()) : nlohmann::json();
    if (old != value) {
      throw Error("the saved state belongs to a run with other settings")
          .file(state_folder.string())
          .expected(fmt::format("{} {}", key, value.dump()))
          .found(old.dump())
          .hint("remove the folder to start anew");
    }
  }
}

}  // namespace

TrainingEnd train_index(const Model& model, const HeadPlan& plan, Indexer& indexer, DataStream& data,
                        const IndexTrainingOptions& options, const dist::ProcessGroup& group,
                        const std::filesystem::path& folder,
                        const std::function<void(const IndexTrainingStep&)>& on_step) {
  AdamW optimizer(all_parameters(indexer), options.adamw);
  const std::filesystem::path state_folder = folder / "state", metrics_path = folder / "metrics.jsonl";
  const nlohmann::json settings = settings_of(plan, indexer, options);
  if (options.documents_per_step < 1 || options.documents_per_step % group.world_size() != 0) {
    throw Error("documents_per_step")
        .expected(fmt::format("a multiple of the {} processes", group.world_size()))
        .found(std::to_string(options.documents_per_step));
  }
  std::filesystem::create_directories(folder);
  int64_t step = 0;
  if (const auto state = TrainingState::load(state_folder)) {
    check_settings(state->settings, settings, state_folder);
    const at::NoGradGuard no_grad;
    indexer.load(state->tensors);
    optimizer.load_state(state->tensors);
    data.restore(state->data);
    step = state->next_step;
    log_info("index training goes on at step {} of {}", step, options.steps);
  }
  const auto save = [&](int64_t next_step) {
    if (group.is_main()) {
      TrainingState state{next_step, data.state(), settings.dump(), optimizer.state()};
      state.tensors.merge(indexer.named_tensors());
      state.save(state_folder);
    }
    group.barrier();
  };
  if (group.is_main()) {
    remove_leftovers(state_folder);
    truncate_metrics(metrics_path, step);
  }
  std::ofstream metrics(metrics_path, std::ios::app);
  Progress progress("train index", options.steps, "steps");
  progress.advance(step);
  const InterruptGuard guard;
  for (; step < options.steps; ++step) {
    if (any_rank_interrupted(group)) {
      save(step);
      return TrainingEnd::kInterrupted;
    }
    const auto start = std::chrono::steady_clock::now();
    IndexTrainingStep measured = run_step(model, plan, indexer, optimizer.parameters(), data, options, group, step);
    measured.learning_rate = options.learning_rate * warmup_cosine(step, options.warmup, options.steps);
    measured.gradient_norm = optimizer.step(measured.learning_rate);
    if (!std::isfinite(measured.gradient_norm) || !std::isfinite(measured.kl)) {
      throw Error(fmt::format("index training, step {}: the loss is not finite", step))
          .file(state_folder.string())
          .hint("the last good state stays there; lower the learning rate or look at the data of this step");
    }
    measured.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    if (group.is_main()) {
      metrics << line_of(measured).dump() << std::endl;
    }
    if (on_step) {
      on_step(measured);
    }
    progress.note(fmt::format("KL {:.3f}", measured.kl));
    progress.advance();
    if ((step + 1) % options.save_every == 0) {
      save(step + 1);
    }
  }
  progress.finish();
  if (group.is_main()) {
    std::map<std::string, at::Tensor> tensors;
    for (const auto& [name, tensor] : indexer.named_tensors()) {
      tensors[name] = tensor.detach();
    }
    write_safetensors(folder / "indexer.safetensors", tensors);
  }
  group.barrier();
  return TrainingEnd::kFinished;
}

}  // namespace retrosparse
