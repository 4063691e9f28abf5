#include "text/tokenizer.h"

#include <string>

#include "../tests/text/small_tokenizer.h"
#include "fuzz.h"
#include "text/normalizer.h"

namespace retrosparse {
namespace {

constexpr std::string_view kLlama3Pattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

/// With a special token, one that eats no white space, and a split pattern of its own.
nlohmann::json small_llama3() {
  nlohmann::json document = small_tokenizer_json({"h e", "l l", "he ll", "Ġ a", "Ð ¿", "\u0120 \u0120"});
  document["pre_tokenizer"] = split_by(kLlama3Pattern);
  document["added_tokens"] = {added_token("<|s|>", 262, {{"special", true}}),
                              added_token("<|", 263, {{"single_word", true}})};
  return document;
}

nlohmann::json small_nfc() {
  nlohmann::json document = small_llama3();
  document["normalizer"] = {{"type", "NFC"}};
  document["added_tokens"] = nlohmann::json::array();
  return document;
}

/// Text comes back from its ids, exactly or in its normal form.
void check_round_trip(std::string_view text) {
  static const Tokenizer gpt2 = tokenizer_of(small_tokenizer_json());
  static const Tokenizer llama3 = tokenizer_of(small_llama3());
  static const Tokenizer nfc = tokenizer_of(small_nfc());
  constexpr DecodeOptions kAll{.skip_special_tokens = false};
  fuzz_check(gpt2.decode(gpt2.encode(text), kAll) == text, "GPT-2's split gives the text back");
  fuzz_check(llama3.decode(llama3.encode(text), kAll) == text, "added tokens give the text back");
  fuzz_check(nfc.decode(nfc.encode(text), kAll) == normalize(text, {Normalizer(NormalForm::kNfc)}),
             "normalization gives the normal form back");
}

/// A file that is accepted also works, at least to an Error.
void check_file(std::string_view text) {
  const Tokenizer tokenizer = Tokenizer::from_json(JsonObject::parse(text, "tokenizer.json"));
  const std::vector<int64_t> ids = tokenizer.encode("hello  world, 12345 naïve 世界\n\n");
  (void)tokenizer.decode(ids);
  for (int64_t id = 0; id < tokenizer.vocab_size(); ++id) {
    (void)tokenizer.is_special(id);
  }
}

}  // namespace
}  // namespace retrosparse

/// A tokenizer.json, or else a text.
RETROSPARSE_FUZZ_TARGET(bytes) {
  const std::string_view text = retrosparse::as_text(bytes);
  if (text.starts_with('{')) {
    retrosparse::check_file(text);
  } else {
    retrosparse::check_round_trip(text);
  }
}
