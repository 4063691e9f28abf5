#include "convert/measure_speed.h"

#include <ATen/ops/empty.h>

#include "ops/kernel_use.h"
#include "validate/generation_speed.h"

namespace retrosparse {
namespace {

TimedGeneration dense_generation(const Model& model, int64_t chunk) {
  return [&model, chunk](at::IntArrayRef prompt, int64_t new_tokens) {
    GenerateTimes times;
    generate(model, prompt, {.max_new_tokens = new_tokens, .prefill_chunk = chunk}, &times);
    return times;
  };
}

TimedGeneration sparse_generation(const Model& model, const SparseModel& sparse, int64_t chunk) {
  return [&model, &sparse, chunk](at::IntArrayRef prompt, int64_t new_tokens) {
    GenerateTimes times;
    SparseAttention attention(sparse);
    attention.set_sparse_from(static_cast<int64_t>(prompt.size()));
    generate(model, prompt, {.max_new_tokens = new_tokens, .prefill_chunk = chunk, .attention = &attention}, &times);
    return times;
  };
}

}  // namespace

void measure_speed(Workspace& workspace, const SparseModel& sparse, const std::vector<int64_t>& ids,
                   Report::Validation& validation) {
  const Recipe::Validate& recipe = workspace.recipe().validate;
  const int64_t chunk = workspace.options().prefill_chunk;
  const ModelConfig& config = workspace.config();
  const at::IntArrayRef prompt = at::IntArrayRef(ids).slice(0, ids.size() - static_cast<size_t>(recipe.speed_tokens));
  std::vector<TimedGeneration> models{dense_generation(workspace.dense_model(), chunk),
                                      sparse_generation(workspace.converted_model(), sparse, chunk)};
  const bool has_kernels = ops::attention_kernels_serve(
      at::empty({1, config.num_attention_heads, config.head_dim},
                at::TensorOptions().device(workspace.options().device).dtype(workspace.options().dtype)),
      ops::KernelUse::kPrefill);
  if (has_kernels) {
    models.push_back([with_kernels = models[1]](at::IntArrayRef some_prompt, int64_t new_tokens) {
      const ops::ScopedKernelUse without(ops::KernelUse::kOff);
      return with_kernels(some_prompt, new_tokens);
    });
  }
  const std::vector<GenerationSpeed> speeds = generation_speeds(models, prompt, recipe.speed_tokens, recipe.speed_runs);
  Report::Speed& speed = validation.speed.emplace();
  speed.prompt_tokens = static_cast<int64_t>(prompt.size());
  speed.new_tokens = recipe.speed_tokens;
  speed.runs = recipe.speed_runs;
  validation.variants.dense->prefill_speed = speeds[0].prefill;
  validation.variants.dense->decode_speed = speeds[0].decode;
  validation.variants.sparse->prefill_speed = speeds[1].prefill;
  validation.variants.sparse->decode_speed = speeds[1].decode;
  if (has_kernels) {
    speed.prefill_without_kernels = speeds[2].prefill;
    speed.decode_without_kernels = speeds[2].decode;
  }
}

}  // namespace retrosparse
