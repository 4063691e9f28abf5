#include "model/generate.h"

#include <c10/core/InferenceMode.h>

#include <ATen/ops/isfinite.h>
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <optional>

#include "base/error.h"

namespace retrosparse {
namespace {

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// About scores of the token at `position` that are NaN or infinite: nothing can be picked or learnt from them.
Error not_finite(const Model& model, int64_t position) {
  const at::ScalarType dtype = model.weights().dtype();
  Error error(fmt::format("the model's scores behind token {} are not finite numbers", position));
  error.file(model.config().source.string()).found("NaN or infinity, computing in " + config_dtype_name(dtype));
  return error.hint(dtype == at::kHalf
                        ? "float16 ends at 65504: try --dtype bfloat16 or float32; else the weights are broken"
                        : "some weights are broken");
}

// A few rows at a time: at a vocabulary of 150,000 the scores of a chunk of 4,096 tokens would take 2.5 GB.
void give_logits(const Model& model, int64_t first_position, const at::Tensor& hidden,
                 const std::function<void(int64_t, const at::Tensor&)>& sink) {
  constexpr int64_t kRows = 256;
  for (int64_t row = 0; row < hidden.size(0); row += kRows) {
    const at::Tensor rows = hidden.narrow(0, row, std::min(kRows, hidden.size(0) - row));
    const at::Tensor logits = model.logits(rows);
    const at::Tensor finite = logits.isfinite().all(/*dim=*/1).to(at::kCPU);
    if (!finite.all().item<bool>()) {
      throw not_finite(model, first_position + row + finite.logical_not().to(at::kInt).argmax().item<int64_t>());
    }
    sink(first_position + row, logits);
  }
}

}  // namespace

std::vector<int64_t> generate(const Model& model, at::IntArrayRef prompt, const GenerateOptions& options,
                              GenerateTimes* times) {
  if (prompt.empty()) {
    throw Error("the prompt is empty").expected("at least one token");
  }
  const auto length = static_cast<int64_t>(prompt.size()), decode_from = options.decode_from.value_or(length);
  if (decode_from < 1 || decode_from > length) {
    throw Error("cannot decode the prompt from this position")
        .expected(fmt::format("1 to {}", length))
        .found(std::to_string(decode_from));
  }
  const c10::InferenceMode inference;
  Sampler sampler(options.sampling);
  KvCache cache = model.make_cache();
  constexpr int64_t kAhead = 1024;  // the cache grows when more come: max_new_tokens is a limit, not a promise
  cache.reserve(length + std::min(options.max_new_tokens, kAhead));
  const ForwardOptions forward{&cache, options.attention, {}};

  at::Tensor last;  // hidden state of the prompt's latest token so far, [hidden]
  const auto take = [&](int64_t first, const at::Tensor& hidden) {
    if (options.on_prompt_logits) {
      give_logits(model, first, hidden, options.on_prompt_logits);
    }
    last = hidden.select(0, hidden.size(0) - 1);
  };
  const auto start = std::chrono::steady_clock::now();
  model.prefill(prompt.slice(0, static_cast<size_t>(decode_from)), options.prefill_chunk, forward, take);
  double prefill_seconds = 0;
  const auto end_prefill = [&] {
    last.cpu();  // waits for the device
    prefill_seconds = seconds_since(start);
  };
  if (decode_from < length) {
    end_prefill();
  }
  for (int64_t position = decode_from; position < length; ++position) {
    take(position, model.forward(prompt[static_cast<size_t>(position)], forward));
  }
  std::vector<int64_t> tokens;
  const auto pick = [&](const at::Tensor& hidden) {
    const std::optional<int64_t> token = sampler.pick(model.logits(hidden).select(0, 0));
    if (!token) {
      throw not_finite(model, length + static_cast<int64_t>(tokens.size()) - 1);
    }
    return *token;
  };
  bool more = options.max_new_tokens > 0;
  int64_t token = pick(last.unsqueeze(0));  // at any rate: broken weights are told of in a mere prefill, too
  if (decode_from == length) {
    end_prefill();
  }
  while (more && std::ranges::find(options.stop_ids, token) == options.stop_ids.end()) {
    tokens.push_back(token);
    more = !options.on_token || options.on_token(token);
    if (!more || static_cast<int64_t>(tokens.size()) == options.max_new_tokens) {
      break;
    }
    token = pick(model.forward(token, forward));
  }
  if (times != nullptr) {
    *times = {prefill_seconds, seconds_since(start) - prefill_seconds};
  }
  return tokens;
}

}  // namespace retrosparse
