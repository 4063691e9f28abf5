#pragma once
#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/random.h"
#include "base/yaml.h"

namespace retrosparse {

/// Least and most, both included.
struct Bounds {
  int64_t low = 0, high = 0;

  int64_t draw(Random& random) const { return random.between(low, high); }
};

/// Names that are told apart: "quiet-harbor".
struct KeyFormat {
  std::string pattern;
  std::vector<std::string> adjectives, nouns;

  int64_t count() const { return static_cast<int64_t>(adjectives.size() * nouns.size()); }
  std::string key(int64_t index) const;  ///< 0 <= index < count()
};

struct NeedleFormat {
  std::vector<std::string> statements;
  std::string question, answer, question_for_all, answer_for_all, separator;
};

struct KeyValueFormat {
  std::string opening, line, closing, key_endings, question, answer;
};

struct CopyFormat {
  std::string before, after, question;
};

struct VariableFormat {
  int64_t name_letters = 0, value_digits = 0;
  std::string first, next, question, answer, separator;
};

/// What one kind of task is made of. configs/tasks/retrieval.yaml shows what each looks like.
struct NeedlesTask {
  int64_t needles = 0;    ///< each with a key and a value of its own
  int64_t questions = 0;  ///< about as many different needles, one after the other
};
struct MultiValueTask {
  int64_t values = 0;         ///< needles with the key that is asked for
  int64_t other_needles = 0;  ///< needles with other keys
};
struct KeyValueTask {
  double least_share = 0, most_share = 0;  ///< of the length that is JSON data; questions fill the rest
};
struct VariableTrackingTask {
  Bounds chains, hops;  ///< a chain of n hops has n + 1 variables
};
struct CopyTask {
  Bounds passage_tokens;
};
struct RunningTextTask {
  int64_t scored_tokens = 0;  ///< the last ones
};
using TaskKind =
    std::variant<NeedlesTask, MultiValueTask, KeyValueTask, VariableTrackingTask, CopyTask, RunningTextTask>;

/// The tasks by name, and the words of which their samples are made: a YAML file such as configs/tasks/retrieval.yaml.
struct TaskFormats {
  std::string name;  ///< of the file, for messages
  std::string prologue;
  KeyFormat keys;
  int64_t value_digits = 0;
  NeedleFormat needles;
  KeyValueFormat key_value;
  CopyFormat copy;
  VariableFormat variables;
  std::map<std::string, TaskKind> tasks;

  /// configs/tasks/retrieval.yaml, compiled in.
  static const TaskFormats& builtin();

  /// Error (with file, line and key): missing, not YAML, a key missing, unknown or of a wrong type; a text without its
  /// placeholder; a number that makes no task; a word given twice.
  static TaskFormats read(const std::filesystem::path& path);
  static TaskFormats parse(std::string_view yaml, std::string name);

  /// Error: no task has this name; says which do.
  const TaskKind& task(const std::string& task_name) const;

  /// In alphabetical order.
  std::vector<std::string> task_names() const;
};

/// `pattern` with every "{name}" replaced by what `values` has under that name.
std::string fill_in(std::string_view pattern, const std::map<std::string, std::string>& values);

}  // namespace retrosparse
