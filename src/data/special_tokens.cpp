#include "data/special_tokens.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/json.h"

namespace retrosparse {

namespace {

/// What stands before the text's own ids when the tokenizer adds its special tokens.
std::vector<int64_t> added_before_text(const Tokenizer& tokenizer) {
  constexpr const char* kAnyText = "a";
  const std::vector<int64_t> plain = tokenizer.encode(kAnyText, {.add_special_tokens = false});
  const std::vector<int64_t> full = tokenizer.encode(kAnyText, {.add_special_tokens = true});
  return {full.begin(), std::search(full.begin(), full.end(), plain.begin(), plain.end())};
}

int64_t end_of_text_id(const std::filesystem::path& folder, const Tokenizer& tokenizer) {
  for (const char* spelling : {"<|endoftext|>", "<|end_of_text|>", "</s>"}) {
    if (const auto id = tokenizer.token_to_id(spelling)) {
      return *id;
    }
  }
  const JsonObject config = JsonObject::read(folder / "config.json");
  if (!config.has("eos_token_id")) {
    throw config.error("eos_token_id", "missing, and the tokenizer has no end-of-text token of a known name");
  }
  if (!config.raw().at("eos_token_id").is_array()) {
    return config.get<int64_t>("eos_token_id");
  }
  const auto ids = config.get<std::vector<int64_t>>("eos_token_id");
  if (ids.empty()) {
    throw config.wrong_value("eos_token_id", "at least one token id");
  }
  return ids.front();
}

}  // namespace

SpecialTokens SpecialTokens::of_model(const std::filesystem::path& folder, const Tokenizer& tokenizer) {
  return {added_before_text(tokenizer), end_of_text_id(folder, tokenizer)};
}

}  // namespace retrosparse
