#include "train/training_loop.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/full.h>
#include <fmt/format.h>

#include <cerrno>
#include <chrono>
#include <cmath>
#include <fstream>
#include <system_error>

#include "base/error.h"
#include "base/file.h"
#include "base/interrupt.h"
#include "base/leftovers.h"
#include "base/log.h"
#include "base/progress.h"
#include "train/training_state.h"

namespace retrosparse {
namespace {

// All ranks stop at the same step, whichever of them was asked to.
bool any_rank_interrupted(const dist::ProcessGroup& group) {
  const at::Tensor asked =
      at::full({}, InterruptGuard::requested() ? 1.0 : 0.0, at::TensorOptions(group.device()).dtype(at::kFloat));
  group.all_reduce_sum(asked);
  return asked.item<float>() > 0;
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

void check_finite(const nlohmann::ordered_json& measured, const TrainingLoop& loop, int64_t step) {
  for (const auto& [name, value] : measured.items()) {
    if (value.is_number_float() && !std::isfinite(value.get<double>())) {
      const std::filesystem::path state = loop.folder / "state";
      const bool is_saved = std::filesystem::exists(state);
      throw Error(fmt::format("{}, step {}: {} is not finite", loop.name, step, name))
          .file(loop.folder.string())
          .hint(fmt::format("{}; with a lower learning rate training starts anew, and it is worth a look at the data "
                            "of this step",
                            is_saved ? fmt::format("the last good state stays in {}", state.string())
                                     : "no state was saved yet (save_every)"));
    }
  }
}

}  // namespace

int64_t TrainingLoop::restore(AdamW& optimizer, DataStream& data) const {
  const std::filesystem::path state_folder = folder / "state";
  const auto state = TrainingState::load(state_folder);
  if (!state) {
    return 0;
  }
  check_settings(state->settings, settings, state_folder);
  const at::NoGradGuard no_grad;
  for (const auto& [parameter_name, parameter] : parameters) {
    const auto saved = state->tensors.find(parameter_name);
    if (saved == state->tensors.end() || saved->second.sizes() != parameter.sizes()) {
      throw Error("missing, or of wrong shape").file(state_folder.string()).tensor(parameter_name);
    }
    parameter.copy_(saved->second);
  }
  optimizer.load_state(state->tensors);
  data.restore(state->data);
  log_info("{} goes on at step {} of {}", name, state->next_step, steps);
  return state->next_step;
}

TrainingEnd TrainingLoop::run(AdamW& optimizer, DataStream& data, const dist::ProcessGroup& group,
                              const std::function<nlohmann::ordered_json(int64_t)>& step_function) const {
  if (documents_per_step < 1 || documents_per_step % group.world_size() != 0) {
    throw Error("documents_per_step")
        .expected(fmt::format("a multiple of the {} processes", group.world_size()))
        .found(std::to_string(documents_per_step));
  }
  const std::filesystem::path state_folder = folder / "state", metrics_path = folder / "metrics.jsonl";
  std::filesystem::create_directories(folder);
  if (group.is_main()) {
    remove_leftovers(state_folder);
  }
  group.barrier();
  int64_t step = restore(optimizer, data);
  const std::string metrics_so_far = kept_metrics(metrics_path, step);  // by all ranks, so that all stop at a bad one
  group.barrier();
  const auto save = [&](int64_t next_step) {
    if (group.is_main()) {
      sync_to_disk(metrics_path);  // a state whose steps are not in the log would be refused
      TrainingState state{next_step, data.state(), settings.dump(), optimizer.state()};
      for (const auto& [parameter_name, parameter] : parameters) {
        state.tensors[parameter_name] = parameter.detach();
      }
      state.save(state_folder);
    }
    group.barrier();
  };
  std::ofstream metrics;
  if (group.is_main()) {
    write_atomically(metrics_path, metrics_so_far);
    metrics.open(metrics_path, std::ios::app);
  }
  Progress progress(name, steps, "steps");
  progress.advance(step);
  const InterruptGuard guard;
  for (; step < steps; ++step) {
    if (any_rank_interrupted(group)) {
      save(step);
      return TrainingEnd::kInterrupted;
    }
    const auto start = std::chrono::steady_clock::now();
    const nlohmann::ordered_json measured = step_function(step);
    check_finite(measured, *this, step);
    if (group.is_main()) {
      nlohmann::ordered_json line = {{"step", step}};
      line.update(measured);
      line["seconds"] = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
      if (!(metrics << line.dump() << std::endl)) {
        throw Error("cannot write: " + std::generic_category().message(errno)).file(metrics_path.string());
      }
    }
    progress.note(fmt::format("{} {:.4g}", measured.begin().key(), measured.begin().value().get<double>()));
    progress.advance();
    if ((step + 1) % save_every == 0 || step + 1 == steps) {
      save(step + 1);
    }
  }
  progress.finish();
  return TrainingEnd::kFinished;
}

}  // namespace retrosparse
