#include "model/generate.h"

#include <fmt/ranges.h>

#include <CLI/App.hpp>
#include <algorithm>
#include <filesystem>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/interrupt.h"
#include "base/json.h"
#include "base/log.h"
#include "checkpoint/safetensors_stream.h"
#include "cli/attention_options.h"
#include "cli/commands.h"
#include "cli/common.h"
#include "cli/generation.h"
#include "cli/options.h"
#include "cli/output.h"
#include "cli/prompt.h"
#include "cli/watched_attention.h"
#include "model/peak_memory.h"

namespace retrosparse::cli {
namespace {

constexpr int64_t kMostTokens = int64_t{1} << 30;

struct GenerateArguments {
  std::string model;
  PromptOptions prompt;
  int64_t max_new_tokens = 64;
  SamplingOptions sampling;
  bool ignore_eos = false;
  int64_t prefill_chunk = 4096;
  std::optional<int64_t> decode_from;
  std::optional<std::string> logits;
  AttentionOptions attention;
  DeviceOptions device;
  bool ids = false;
  bool json = false;
};

// Needed to read a text; to write one it is used where there is one, so that models without a tokenizer run too.
std::optional<Tokenizer> load_tokenizer(const GenerateArguments& arguments) {
  if (arguments.prompt.is_text()) {
    return Tokenizer::from_folder(arguments.model);
  }
  if (arguments.ids || !std::filesystem::exists(std::filesystem::path(arguments.model) / "tokenizer.json")) {
    return std::nullopt;
  }
  return Tokenizer::from_folder(arguments.model);
}

void warn_of_length(const ModelConfig& config, int64_t prompt_length, int64_t max_new_tokens) {
  const int64_t longest = config.max_position_embeddings;
  if (prompt_length > longest) {
    log_warning("the prompt has {} tokens, the model was made for {} (max_position_embeddings)", prompt_length,
                longest);
  } else if (prompt_length + max_new_tokens > longest) {
    log_warning("prompt and new tokens may reach {} tokens, the model was made for {} (max_position_embeddings)",
                prompt_length + max_new_tokens, longest);
  }
}

// Of generation_config.json, what changes what transformers generates greedily.
void warn_of_what_is_not_applied(const JsonObject& json) {
  static const std::map<std::string, nlohmann::json> neutral = {
      {"repetition_penalty", 1.0}, {"encoder_repetition_penalty", 1.0},
      {"guidance_scale", 1.0},     {"num_beams", 1},
      {"no_repeat_ngram_size", 0}, {"min_length", 0},
      {"min_new_tokens", 0}};
  std::vector<std::string> keys = {
      "bad_words_ids",       "suppress_tokens",     "begin_suppress_tokens",           "sequence_bias",
      "forced_bos_token_id", "forced_eos_token_id", "exponential_decay_length_penalty"};
  for (const auto& [key, value] : neutral) {
    if (json.has(key) && json.raw()[key] != value) {
      keys.push_back(key);
    }
  }
  std::vector<std::string> ignored;
  for (const std::string& key : keys) {
    if (json.has(key)) {
      ignored.push_back(fmt::format("{}: {}", key, json.raw()[key].dump()));
    }
  }
  if (!ignored.empty()) {
    log_warning("generation_config.json: not applied, so that transformers may generate something else: {}",
                fmt::join(ignored, ", "));
  }
}

// Generation ends where transformers ends it: generation_config.json decides where there is one, else config.json.
std::vector<int64_t> stop_ids(const std::filesystem::path& folder, const ModelConfig& config) {
  const std::filesystem::path path = folder / "generation_config.json";
  if (!std::filesystem::exists(path)) {
    return config.eos_token_ids;
  }
  const JsonObject json = JsonObject::read(path);
  warn_of_what_is_not_applied(json);
  if (!json.has("eos_token_id")) {
    return {};
  }
  return json.raw()["eos_token_id"].is_array() ? json.get<std::vector<int64_t>>("eos_token_id")
                                               : std::vector{json.get<int64_t>("eos_token_id")};
}

void run_generate(const GenerateArguments& arguments) {
  check_one_source(arguments.prompt);
  const at::Device device = arguments.device.resolve_device();
  // Everything that can be wrong is looked at before the weights are read.
  const ModelConfig config = ModelConfig::read(arguments.model);
  const std::optional<Tokenizer> tokenizer = load_tokenizer(arguments);
  const std::vector<int64_t> prompt = read_prompt(arguments.prompt, tokenizer ? &*tokenizer : nullptr, config);
  const auto prompt_length = static_cast<int64_t>(prompt.size());
  if (arguments.decode_from && *arguments.decode_from > prompt_length) {
    throw Error("--decode-from is behind the prompt")
        .expected(fmt::format("at most {}, the prompt's tokens", prompt_length))
        .found(std::to_string(*arguments.decode_from));
  }
  ChosenAttention attention(arguments.attention, arguments.model, config, device,
                            arguments.decode_from.value_or(prompt_length));
  warn_of_length(config, prompt_length, arguments.max_new_tokens);
  const InterruptGuard interrupts;  // from here on there is a file to tidy up
  std::optional<SafetensorsStream> logits;
  if (arguments.logits) {
    logits.emplace(*arguments.logits, "logits", at::kFloat, std::vector{prompt_length, config.vocab_size});
  }

  GenerateOptions options;
  options.max_new_tokens = arguments.max_new_tokens;
  options.prefill_chunk = arguments.prefill_chunk;
  options.decode_from = arguments.decode_from;
  options.sampling = arguments.sampling;
  if (!arguments.ignore_eos) {
    options.stop_ids = stop_ids(arguments.model, config);
  }
  if (logits) {
    options.on_prompt_logits = [&](int64_t, const at::Tensor& rows) { logits->append(rows); };
  }
  TokenOutput output(tokenizer, arguments.ids, arguments.json);
  options.on_token = [&](int64_t id) {
    output.push(id);
    return true;
  };
  const Model model = Model::load(arguments.model, device, arguments.device.resolve_dtype(device));
  Generation outcome;
  outcome.prompt_tokens = prompt_length;
  outcome.prefilled_tokens = arguments.decode_from.value_or(prompt_length);
  WatchedAttention watched(attention.get(), config.num_hidden_layers, outcome.prefilled_tokens,
                           arguments.prefill_chunk);
  options.attention = &watched;
  outcome.ids = generate(model, prompt, options, &outcome.times);
  outcome.stopped = static_cast<int64_t>(outcome.ids.size()) < arguments.max_new_tokens;
  outcome.selection = attention.counts();
  outcome.peak_memory = peak_memory(device);
  if (logits) {
    logits->commit();
  }
  output.finish();
  outcome.text = output.text();
  if (arguments.json) {
    print_json(outcome.json());
  }
  outcome.log_speed();
}

void add_sampling_options(CLI::App& command, GenerateArguments& arguments) {
  command.add_option("--max-new-tokens", arguments.max_new_tokens, "stop after that many tokens; 0: only the prefill")
      ->capture_default_str()
      ->type_name("N")
      ->check(between<int64_t>(0, kMostTokens));
  CLI::Option* temperature = command.add_option("--temperature", arguments.sampling.temperature, "0 is greedy")
                                 ->type_name("X")
                                 ->capture_default_str()
                                 ->check(between(0.0, 1000.0));
  command
      .add_option("--top-p", arguments.sampling.top_p, "sample from the likeliest tokens that hold this probability")
      ->type_name("P")
      ->capture_default_str()
      ->needs(temperature)
      ->check(between(1e-9, 1.0));
  command.add_option("--seed", arguments.sampling.seed, "of the sampling")
      ->type_name("N")
      ->capture_default_str()
      ->check(between<uint64_t>(0, uint64_t{1} << 62));
  command.add_flag("--ignore-eos", arguments.ignore_eos, "go on after the end-of-sequence token");
}

}  // namespace

void add_generate(CLI::App& app) {
  const auto arguments = std::make_shared<GenerateArguments>();
  CLI::App& command =
      add_command(app, "generate", "Continue a prompt, or write its logits.",
                  "retrosparse generate --model examples/nano --prompt-file examples/prompts/needle.txt "
                  "--max-new-tokens 8",
                  [arguments] { run_generate(*arguments); });
  add_model_option(command, arguments->model);
  add_prompt_options(command, arguments->prompt);
  add_sampling_options(command, *arguments);
  command.add_option("--logits", arguments->logits, "write the prompt's logits: tensor 'logits', float32 [T, vocab]")
      ->type_name("FILE.safetensors")
      ->check(not_empty());
  command.add_option("--prefill-chunk", arguments->prefill_chunk, "prompt tokens in one forward pass")
      ->capture_default_str()
      ->type_name("N")
      ->check(between<int64_t>(1, kMostTokens));
  command
      .add_option("--decode-from", arguments->decode_from,
                  "read the prompt's tokens from this position on one at a time, as new ones are: a converted model "
                  "is sparse there")
      ->type_name("N")
      ->check(between<int64_t>(1, kMostTokens));
  command.add_flag("--ids", arguments->ids,
                   "print token ids instead of text; in both the end-of-sequence token is left out");
  add_attention_options(command, arguments->attention);
  add_device_options(command, arguments->device);
  add_json_option(command, arguments->json);
}

}  // namespace retrosparse::cli
