#include "model/tensor_match.h"

#include <ATen/ops/equal.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <optional>
#include <set>

#include "base/log.h"
#include "model/weights.h"

namespace retrosparse {
namespace {

// The name under which the checkpoint stores `wanted`: its own, or for a tied embedding the head's.
std::optional<std::string> stored_name(const Checkpoint& checkpoint, const ModelConfig& config,
                                       const std::string& wanted) {
  if (checkpoint.has(wanted)) {
    return wanted;
  }
  const Family& family = *config.family;
  if (config.tie_word_embeddings && wanted == family.embed_tokens && checkpoint.has(family.lm_head)) {
    return family.lm_head;
  }
  return std::nullopt;
}

std::optional<Error> problem_with(const Checkpoint& checkpoint, const std::string& name, at::IntArrayRef shape) {
  const TensorInfo& info = checkpoint.info(name);
  if (info.dtype != at::kFloat && info.dtype != at::kHalf && info.dtype != at::kBFloat16) {
    return Error("quantised or integer weights are not supported")
        .file(checkpoint.file_of(name))
        .tensor(name)
        .expected("float32, float16 or bfloat16")
        .found(c10::toString(info.dtype));
  }
  if (at::IntArrayRef(info.shape) != shape) {
    return Error("wrong shape for this config.json")
        .file(checkpoint.file_of(name))
        .tensor(name)
        .expected(shape_text(shape))
        .found(shape_text(info.shape));
  }
  return std::nullopt;
}

std::vector<std::string> surplus_tensors(const Checkpoint& checkpoint, const ModelConfig& config,
                                         const std::set<std::string>& used) {
  std::vector<std::string> surplus;
  for (const std::string& name : checkpoint.names()) {
    const bool ignored = std::ranges::any_of(config.family->ignored_tensors,
                                             [&](const std::string& suffix) { return name.ends_with(suffix); });
    const bool tied_copy = config.tie_word_embeddings && name == config.family->lm_head;
    if (!used.contains(name) && !ignored && !tied_copy) {
      surplus.push_back(name);
    }
  }
  return surplus;
}

}  // namespace

TensorMatch match_tensors(const Checkpoint& checkpoint, const ModelConfig& config) {
  // On the meta device tensors have shapes but no memory.
  const ModelWeights shapes = allocate_weights(config, at::kMeta, at::kFloat);
  TensorMatch match;
  std::set<std::string> used;
  for (const TensorBinding& binding : bind_tensors(config, shapes)) {
    const std::optional<std::string> stored = stored_name(checkpoint, config, binding.name);
    if (!stored) {
      match.missing.push_back(binding.name);
      continue;
    }
    match.stored_as[binding.name] = *stored;
    used.insert(*stored);
    if (std::optional<Error> problem = problem_with(checkpoint, *stored, binding.view.sizes())) {
      match.wrong.push_back(std::move(*problem));
    }
  }
  match.surplus = surplus_tensors(checkpoint, config, used);
  return match;
}

void TensorMatch::check(const Checkpoint& checkpoint) const {
  if (!missing.empty()) {
    throw Error(fmt::format("{} of {} tensors are missing: {}", missing.size(), num_needed(), first_few(missing)))
        .file(checkpoint.dir().string());
  }
  if (!wrong.empty()) {
    throw Error(wrong.front());
  }
}

bool embeddings_are_tied(const Checkpoint& checkpoint, const ModelConfig& config) {
  const Family& family = *config.family;
  if (!config.tie_word_embeddings || !checkpoint.has(family.embed_tokens) || !checkpoint.has(family.lm_head)) {
    return config.tie_word_embeddings;
  }
  const at::Tensor input = checkpoint.tensor(family.embed_tokens), output = checkpoint.tensor(family.lm_head);
  if (input.sizes() == output.sizes() && at::equal(input.to(at::kFloat), output.to(at::kFloat))) {
    return true;
  }
  log_warning("{}: config.json ties {} to {}, but both are stored and differ: using each", checkpoint.dir().string(),
              family.lm_head, family.embed_tokens);
  return false;
}

std::string first_few(const std::vector<std::string>& names) {
  constexpr size_t kShown = 5;
  const size_t shown = std::min(names.size(), kShown);
  std::string text =
      fmt::format("{}", fmt::join(names.begin(), names.begin() + static_cast<std::ptrdiff_t>(shown), ", "));
  return names.size() > shown ? fmt::format("{} and {} more", text, names.size() - shown) : text;
}

}  // namespace retrosparse
