#include "cli/generation.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/format.h"
#include "base/log.h"
#include "cli/output.h"

namespace retrosparse::cli {
namespace {

double per_second(double count, double seconds) {
  return seconds > 0 ? count / seconds : 0;
}

}  // namespace

TokenOutput::TokenOutput(const std::optional<Tokenizer>& tokenizer, bool ids, bool silent)
    : ids_(ids || !tokenizer), silent_(silent) {
  if (tokenizer) {
    stream_.emplace(*tokenizer);
  }
}

void TokenOutput::push(int64_t id) {
  const std::string piece = stream_ ? stream_->push(id) : "";
  text_ += piece;
  show(ids_ ? fmt::format("{} ", id) : piece);
}

void TokenOutput::finish() {
  const std::string rest = stream_ ? stream_->finish() : "";
  text_ += rest;
  show(ids_ ? "\n" : rest + "\n");
}

void TokenOutput::show(const std::string& text) const {
  if (!silent_) {
    print(text);
  }
}

// The first token falls out of the prompt's last pass; each forward pass after it gives one more.
double Generation::decode_passes() const {
  const int64_t of_prompt = prompt_tokens - prefilled_tokens;
  return static_cast<double>(of_prompt) + std::max(0.0, static_cast<double>(ids.size()) - (stopped ? 0 : 1));
}

double Generation::prefill_rate() const {
  return per_second(static_cast<double>(prefilled_tokens), times.prefill_seconds);
}

double Generation::decode_rate() const {
  return per_second(decode_passes(), times.decode_seconds);
}

void Generation::log_speed() const {
  std::string line = fmt::format("prefill {} tokens, {:.0f} tokens/s", prefilled_tokens, prefill_rate());
  if (decode_passes() > 0) {
    line += fmt::format("; decode {} tokens, {:.1f} tokens/s",
                        prompt_tokens - prefilled_tokens + static_cast<int64_t>(ids.size()), decode_rate());
  }
  if (selection && selection->rows > 0) {
    line += fmt::format("; {:.1f} of {:.0f} far tokens per row and retrieval head", selection->mean(), available());
  }
  log_info("{}; peak memory {}", line, format_bytes(static_cast<double>(peak_memory)));
}

double Generation::available() const {
  return selection->rows == 0 ? 0
                              : static_cast<double>(selection->far_available) / static_cast<double>(selection->rows);
}

nlohmann::ordered_json Generation::json() const {
  nlohmann::ordered_json json = {{"prompt_tokens", prompt_tokens},
                                 {"prefilled_tokens", prefilled_tokens},
                                 {"ids", ids},
                                 {"text", text},
                                 {"stopped_by", stopped ? "end of sequence" : "length"},
                                 {"prefill_seconds", times.prefill_seconds},
                                 {"decode_seconds", times.decode_seconds},
                                 {"prefill_tokens_per_second", prefill_rate()},
                                 {"decode_tokens_per_second", decode_rate()},
                                 {"peak_memory_bytes", peak_memory}};
  if (selection) {
    json["far_tokens_per_head"] = {{"picked", selection->mean()}, {"available", available()}};
  }
  return json;
}

}  // namespace retrosparse::cli
