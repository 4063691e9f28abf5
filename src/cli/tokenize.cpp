#include <fmt/format.h>
#include <fmt/ranges.h>
#include <unistd.h>

#include <CLI/App.hpp>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>

#include "base/error.h"
#include "cli/arguments.h"
#include "cli/commands.h"
#include "cli/common.h"
#include "cli/output.h"
#include "cli/prompt.h"
#include "text/tokenizer.h"

namespace retrosparse::cli {
namespace {

struct TokenizeArguments {
  std::string model;
  std::optional<std::string> text;
  std::string file;
  bool decode = false;
  bool no_special = false;
  bool count = false;
  bool json = false;
};

struct Input {
  std::string text;
  std::string source;  // for errors
};

Input read(const TokenizeArguments& arguments) {
  if (arguments.text) {
    if (!arguments.file.empty()) {
      throw UsageError("more than one input: a text and --file exclude each other");
    }
    return {*arguments.text, "text"};
  }
  const std::string path = arguments.file.empty() ? "-" : arguments.file;
  return {read_input(path), path == "-" ? "standard input" : path};
}

nlohmann::ordered_json to_json(const Tokenizer& tokenizer, const std::vector<int64_t>& ids, const std::string& text) {
  nlohmann::ordered_json json = {{"count", ids.size()}, {"ids", ids}, {"pieces", nlohmann::ordered_json::array()}};
  for (const int64_t id : ids) {
    json["pieces"].push_back(tokenizer.id_to_token(id));
  }
  json["text"] = text;
  return json;
}

void encode(const TokenizeArguments& arguments, const Tokenizer& tokenizer, const Input& input) {
  std::vector<int64_t> ids;
  try {
    ids = tokenizer.encode(input.text, {.add_special_tokens = !arguments.no_special, .parse_special = true});
  } catch (Error& error) {
    throw error.file(input.source);
  }
  if (arguments.json) {
    print_json(to_json(tokenizer, ids, input.text));
  } else if (arguments.count) {
    print(fmt::format("{}\n", ids.size()));
  } else {
    print(fmt::format("{}\n", fmt::join(ids, " ")));
  }
}

void decode(const TokenizeArguments& arguments, const Tokenizer& tokenizer, const Input& input) {
  const std::vector<int64_t> ids = parse_ids(input.text, input.source);
  std::string text;
  try {
    text = tokenizer.decode(ids, {.skip_special_tokens = arguments.no_special});
  } catch (Error& error) {
    throw error.file(input.source);
  }
  if (arguments.json) {
    print_json(to_json(tokenizer, ids, text));
  } else if (arguments.count) {
    print(fmt::format("{}\n", ids.size()));
  } else {
    print(text);  // and nothing else, so that a file comes back as it was
    print(::isatty(STDOUT_FILENO) == 1 ? "\n" : "");
  }
}

void run_tokenize(const TokenizeArguments& arguments) {
  const Tokenizer tokenizer = std::filesystem::is_regular_file(arguments.model)
                                  ? Tokenizer::from_file(arguments.model)
                                  : Tokenizer::from_folder(arguments.model);
  const Input input = read(arguments);
  if (arguments.decode) {
    decode(arguments, tokenizer, input);
  } else {
    encode(arguments, tokenizer, input);
  }
}

}  // namespace

void add_tokenize(CLI::App& app) {
  const auto arguments = std::make_shared<TokenizeArguments>();
  CLI::App& command = add_command(app, "tokenize", "Turn text into token ids, or ids into text.",
                                  "retrosparse tokenize --model examples/nano 'Hello, world'",
                                  [arguments] { run_tokenize(*arguments); });
  add_model_option(command, arguments->model);
  command
      .add_option_function<std::string>(
          "TEXT", [arguments](const std::string& text) { arguments->text = text; },
          "what to turn; without it, and without --file, standard input")
      ->type_name("");
  command.add_option("--file", arguments->file, "read it from a file; - is standard input")->type_name("FILE");
  command.add_flag("--decode", arguments->decode, "from ids to text; ids are a JSON array or separated by white space");
  command.add_flag("--no-special", arguments->no_special, "add no special tokens; with --decode leave them out");
  command.add_flag("--count", arguments->count, "print only how many tokens there are");
  add_json_option(command, arguments->json);
}

}  // namespace retrosparse::cli
