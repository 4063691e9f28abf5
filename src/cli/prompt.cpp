#include "cli/prompt.h"

#include <CLI/App.hpp>
#include <stdexcept>

#include "base/error.h"
#include "base/file.h"
#include "cli/arguments.h"
#include "cli/common.h"

namespace retrosparse::cli {

void add_prompt_options(CLI::App& command, PromptOptions& options) {
  command
      .add_option_function<std::string>(
          "--prompt", [&options](const std::string& text) { options.text = text; }, "the text to continue")
      ->type_name("TEXT");
  command.add_option("--prompt-file", options.file, "a file with the text to continue; - is standard input")
      ->type_name("FILE");
  command
      .add_option("--prompt-ids", options.ids_file,
                  "a file with token ids, a JSON array or separated by white space; - is standard input")
      ->type_name("FILE");
}

void check_one_source(const PromptOptions& options) {
  const int sources = (options.text ? 1 : 0) + (options.file.empty() ? 0 : 1) + (options.ids_file.empty() ? 0 : 1);
  if (sources != 1) {
    throw UsageError(sources == 0
                         ? "no prompt: one of --prompt, --prompt-file and --prompt-ids is needed"
                         : "more than one prompt: --prompt, --prompt-file and --prompt-ids exclude each other");
  }
}

std::string read_input(const std::string& path) {
  return read_text_or_pipe(path == "-" ? "/dev/stdin" : path);
}

std::vector<int64_t> read_prompt(const PromptOptions& options, const Tokenizer* tokenizer, const ModelConfig& config) {
  const std::string source = options.text ? "--prompt" : options.is_text() ? options.file : options.ids_file;
  if (!options.is_text()) {
    std::vector<int64_t> ids = parse_ids(read_input(options.ids_file), source);
    if (ids.empty()) {
      throw Error("no token ids in it").file(source);
    }
    check_ids(ids, config.vocab_size, source);
    return ids;
  }
  if (tokenizer == nullptr) {
    throw std::logic_error("read_prompt: a text needs a tokenizer");
  }
  const std::string text = options.text ? *options.text : read_input(options.file);
  std::vector<int64_t> ids;
  try {
    ids = tokenizer->encode(text);
  } catch (Error& error) {
    throw error.file(source);
  }
  if (ids.empty()) {
    throw Error("the prompt is empty").file(source);
  }
  check_ids(ids, config.vocab_size, source);
  return ids;
}

}  // namespace retrosparse::cli
