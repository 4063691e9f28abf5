#pragma once
#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "cli/text_stream.h"
#include "model/generate.h"
#include "sparse/sparse_attention.h"
#include "text/tokenizer.h"

namespace retrosparse::cli {

/// Collects the text of the new tokens, and shows it, or their ids, as they come.
class TokenOutput {
 public:
  /// Without a tokenizer there is no text, and the ids are shown. `silent`: shows nothing.
  TokenOutput(const std::optional<Tokenizer>& tokenizer, bool ids, bool silent);

  void push(int64_t id);
  void finish();

  const std::string& text() const { return text_; }

 private:
  void show(const std::string& text) const;

  std::optional<TextStream> stream_;
  bool ids_, silent_;
  std::string text_;
};

/// What a generation gave, and how fast.
struct Generation {
  int64_t prompt_tokens = 0, prefilled_tokens = 0;  ///< the prompt's others were decoded
  std::vector<int64_t> ids;
  std::string text;      ///< empty without a tokenizer
  bool stopped = false;  ///< by a stop id, which is not among `ids` but cost a forward pass
  GenerateTimes times;
  uint64_t peak_memory = 0;
  std::optional<SelectionCounts> selection;  ///< what sparse rows picked

  /// "prefill 1700 tokens, 8210 tokens/s; decode 64 tokens, 95 tokens/s; peak memory 512 MiB" to the log.
  void log_speed() const;

  nlohmann::ordered_json json() const;

 private:
  double prefill_rate() const;
  double decode_rate() const;
  double decode_passes() const;
  double available() const;  // far tokens for a row and head
};

}  // namespace retrosparse::cli
