#include "model/tensor_match.h"

#include <ATen/ops/equal.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <optional>
#include <set>

#include "base/log.h"
#include "checkpoint/tensor_info.h"

namespace retrosparse {
namespace {

// The name under which the checkpoint stores a tensor: its own, or that without the prefix which base models lack.
std::optional<std::string> own_name(const Checkpoint& checkpoint, const Family& family, const std::string& wanted) {
  if (checkpoint.has(wanted)) {
    return wanted;
  }
  if (!family.optional_prefix.empty() && wanted.starts_with(family.optional_prefix)) {
    const std::string short_name = wanted.substr(family.optional_prefix.size());
    return checkpoint.has(short_name) ? std::optional(short_name) : std::nullopt;
  }
  return std::nullopt;
}

// The same, or for a tied embedding the head's name.
std::optional<std::string> stored_name(const Checkpoint& checkpoint, const ModelConfig& config,
                                       const std::string& wanted) {
  const Family& family = *config.family;
  const std::optional<std::string> own = own_name(checkpoint, family, wanted);
  return !own && config.tie_word_embeddings && wanted == family.embed_tokens
             ? own_name(checkpoint, family, family.lm_head)
             : own;
}

// Compares two tables [vocab, hidden] of any floating-point dtypes by value, a few rows at a time: both as a whole, in
// a wider dtype, would take more memory than the model's layers.
bool same_values(const at::Tensor& a, const at::Tensor& b) {
  if (a.sizes() != b.sizes()) {
    return false;
  }
  constexpr int64_t kRows = 1024;
  const auto rows = [&](const at::Tensor& table, int64_t first) {
    const at::Tensor part = table.narrow(0, first, std::min(kRows, table.size(0) - first));
    return a.scalar_type() == b.scalar_type() ? part : part.to(at::kDouble);
  };
  for (int64_t first = 0; first < a.size(0); first += kRows) {
    if (!at::equal(rows(a, first), rows(b, first))) {
      return false;
    }
  }
  return true;
}

// Fused where the first layer with experts is.
ExpertLayout expert_layout(const Checkpoint& checkpoint, const ModelConfig& config) {
  const std::string& pattern = config.family->layer.fused_expert_gate_up;
  for (int64_t layer = 0; config.experts && !pattern.empty() && layer < config.num_hidden_layers; ++layer) {
    if (config.has_experts(layer)) {
      const std::string name = substitute(pattern, "{layer}", layer);
      return stored_name(checkpoint, config, name) ? ExpertLayout::kFused : ExpertLayout::kSeparate;
    }
  }
  return ExpertLayout::kSeparate;
}

std::optional<Error> problem_with(const Checkpoint& checkpoint, const std::string& name, at::IntArrayRef shape) {
  const TensorInfo& info = checkpoint.info(name);
  const std::string file = (checkpoint.dir() / checkpoint.file_of(name)).string();
  if (info.dtype != at::kDouble && info.dtype != at::kFloat && info.dtype != at::kHalf && info.dtype != at::kBFloat16) {
    return Error("quantised or integer weights are not supported")
        .file(file)
        .tensor(name)
        .expected("bfloat16, float16, float32 or float64")
        .found(std::string(*dtype_name(info.dtype)));
  }
  if (at::IntArrayRef(info.shape) != shape) {
    return Error("wrong shape for this config.json")
        .file(file)
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
    const bool of_the_index = config.is_converted() && name.find(".self_attn.indexer.") != std::string::npos;
    const bool tied_copy = config.tie_word_embeddings && name == config.family->lm_head;
    if (!used.contains(name) && !ignored && !tied_copy && !of_the_index) {
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
  match.layout = expert_layout(checkpoint, config);
  std::set<std::string> used;
  for (const TensorBinding& binding : bind_tensors(config, shapes, match.layout)) {
    const std::optional<std::string> stored = stored_name(checkpoint, config, binding.name);
    if (!stored) {
      match.missing.push_back(binding.name);
      match.lacks_output_head = match.lacks_output_head || binding.name == config.family->lm_head;
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
    Error error(fmt::format("{} of {} tensors are missing: {}", missing.size(), num_needed(), first_few(missing)));
    error.file(checkpoint.dir().string());
    if (missing.size() == 1 && lacks_output_head) {
      error.hint("if the output head is the embedding table, config.json has to say tie_word_embeddings: true");
    }
    throw error;
  }
  if (!wrong.empty()) {
    throw Error(wrong.front());
  }
}

bool embeddings_are_tied(const Checkpoint& checkpoint, const ModelConfig& config) {
  const Family& family = *config.family;
  const std::optional<std::string> input = own_name(checkpoint, family, family.embed_tokens);
  if (!config.tie_word_embeddings || !input || !checkpoint.has(family.lm_head)) {
    return config.tie_word_embeddings;
  }
  if (same_values(checkpoint.tensor(*input), checkpoint.tensor(family.lm_head))) {
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
