#pragma once
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"

namespace retrosparse {

struct EncodeOptions {
  /// Add what the file's post-processor adds around a text, e.g. a token for its beginning.
  bool add_special_tokens = true;
  /// Take the spelling of a special token ("<|im_end|>") in the text for that token. Off for text that is not trusted.
  bool parse_special = true;
};

struct DecodeOptions {
  bool skip_special_tokens = true;
};

/// Text to token ids and back, as the Python package `tokenizers` does it with the same tokenizer.json, id by id.
/// Understood are byte-level BPE tokenizers (GPT-2, Llama 3, Qwen and many others); any other kind is refused by name.
/// Truncation and padding that the file may ask for are left to the caller. Immutable, cheap to copy, and safe to use
/// from several threads at once.
class Tokenizer {
 public:
  /// Reads a tokenizer.json. Error: missing, broken, or of a kind that is not supported.
  static Tokenizer from_file(const std::filesystem::path& path);

  /// Reads the tokenizer.json of a model's folder. Error: as from_file; there is none, but files of another kind.
  static Tokenizer from_folder(const std::filesystem::path& folder);

  /// The same from a document at hand.
  static Tokenizer from_json(const JsonObject& json);

  /// The ids of a text. Takes O(n log n) time for n bytes. Error: not UTF-8 (names the byte), or a split pattern that
  /// cannot cope with the text.
  std::vector<int64_t> encode(std::string_view text, const EncodeOptions& options = {}) const;

  /// The text of some ids. Bytes that are not UTF-8, as when a character is cut in two, become U+FFFD. Error: an id
  /// that no token has (names the id and its place).
  std::string decode(std::span<const int64_t> ids, const DecodeOptions& options = {}) const;

  /// What decode() puts between the texts of two tokens: nothing, or a space where the file has no decoder.
  const std::string& separator() const;

  /// The highest id + 1, added tokens included. A model's vocabulary may be larger: it is often padded.
  int64_t vocab_size() const;

  /// By the token's spelling in the file ("Ġworld"); none if there is no such token.
  std::optional<int64_t> token_to_id(std::string_view token) const;

  /// The spelling of a token. Error: an id that no token has.
  const std::string& id_to_token(int64_t id) const;

  /// Whether this is a control token. False for an id that no token has.
  bool is_special(int64_t id) const;

 private:
  struct State;
  explicit Tokenizer(std::shared_ptr<const State> state) : state_(std::move(state)) {}

  std::shared_ptr<const State> state_;
};

}  // namespace retrosparse
