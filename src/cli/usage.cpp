#include "cli/usage.h"

#include <fmt/format.h>

#include <CLI/App.hpp>
#include <vector>

#include "base/suggest.h"

namespace retrosparse::cli {
namespace {

std::vector<std::string> option_names(const CLI::App& command) {
  std::vector<std::string> names;
  for (const CLI::Option* option : command.get_options()) {
    for (const std::string& name : option->get_lnames()) {
      names.push_back("--" + name);
    }
  }
  return names;
}

std::vector<std::string> command_names(const CLI::App& app) {
  std::vector<std::string> names;
  for (const CLI::App* command : app.get_subcommands([](const CLI::App*) { return true; })) {
    names.push_back(command->get_name());
  }
  return names;
}

std::string with_suggestion(std::string problem, const std::string& word, const std::vector<std::string>& candidates) {
  const std::string suggestion = did_you_mean(word, candidates);
  return suggestion.empty() ? problem : fmt::format("{}; {}", problem, suggestion);
}

std::string problem_of(const CLI::App& app, const CLI::App& command, const CLI::ParseError& error) {
  const std::vector<std::string> unknown = app.remaining(true);  // what no option or subcommand took
  if (unknown.empty()) {
    return error.what();
  }
  const std::string word = unknown.front().substr(0, unknown.front().find('='));
  if (word.starts_with('-')) {
    return with_suggestion(fmt::format("unknown option {}", word), word, option_names(command));
  }
  if (&command == &app) {
    return with_suggestion(fmt::format("unknown subcommand '{}'", word), word, command_names(app));
  }
  return fmt::format("unexpected argument '{}'", unknown.front());
}

}  // namespace

std::string usage_message(const CLI::App& app, const CLI::ParseError& error) {
  const std::vector<CLI::App*> chosen = app.get_subcommands();
  const CLI::App& command = chosen.empty() ? app : *chosen.front();
  const std::string name = chosen.empty() ? "retrosparse" : "retrosparse " + command.get_name();
  return fmt::format("{} (see {} --help)", problem_of(app, command, error), name);
}

}  // namespace retrosparse::cli
