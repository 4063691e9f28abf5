#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "model/config.h"
#include "text/tokenizer.h"

namespace CLI {
class App;
}

namespace retrosparse::cli {

/// Where a prompt comes from: exactly one of the three.
struct PromptOptions {
  std::optional<std::string> text;  ///< --prompt
  std::string file;                 ///< --prompt-file, a text; "-" is standard input
  std::string ids_file;             ///< --prompt-ids, token ids; "-" is standard input

  bool is_text() const { return text || !file.empty(); }
};

/// --prompt, --prompt-file and --prompt-ids.
void add_prompt_options(CLI::App& command, PromptOptions& options);

/// UsageError unless exactly one source is named.
void check_one_source(const PromptOptions& options);

/// The prompt's token ids. `tokenizer` is needed for text. Error: unreadable, empty, not UTF-8, not ids, or an id that
/// the model does not have.
std::vector<int64_t> read_prompt(const PromptOptions& options, const Tokenizer* tokenizer, const ModelConfig& config);

/// The content of a file, or of standard input for "-".
std::string read_input(const std::string& path);

}  // namespace retrosparse::cli
