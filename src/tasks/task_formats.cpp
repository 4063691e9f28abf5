#include "tasks/task_formats.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <set>
#include <utility>

#include "base/embedded.h"
#include "base/error.h"
#include "base/file.h"
#include "base/suggest.h"

namespace retrosparse {

std::span<const EmbeddedFile> builtin_task_files();  // generated from configs/tasks/*.yaml

namespace {

/// A text in which each of the placeholders stands.
std::string pattern(const YamlObject& yaml, const std::string& key, std::initializer_list<std::string_view> needed) {
  auto text = yaml.get<std::string>(key);
  for (const std::string_view placeholder : needed) {
    if (text.find(placeholder) == text.npos) {
      throw yaml.error(key, fmt::format("the text lacks the placeholder {}", placeholder))
          .found(fmt::format("'{}'", text));
    }
  }
  return text;
}

int64_t whole(const YamlObject& yaml, const std::string& key, int64_t low, int64_t high = int64_t{1} << 30) {
  const auto number = yaml.get<int64_t>(key);
  if (number < low || number > high) {
    throw yaml.error(key, "out of range").expected(fmt::format("{} to {}", low, high)).found(std::to_string(number));
  }
  return number;
}

Bounds bounds(const YamlObject& yaml, const std::string& key, int64_t low, int64_t high = int64_t{1} << 30) {
  const auto pair = yaml.get<std::vector<int64_t>>(key);
  if (pair.size() != 2 || pair[0] < low || pair[0] > pair[1] || pair[1] > high) {
    throw yaml.error(key, "not a pair of bounds")
        .expected(fmt::format("[least, most], from {} to {}", low, high))
        .found(fmt::format("{}", pair));
  }
  return {pair[0], pair[1]};
}

std::vector<std::string> words(const YamlObject& yaml, const std::string& key) {
  auto list = yaml.get<std::vector<std::string>>(key);
  std::set<std::string_view> seen;
  for (const std::string& word : list) {
    if (!seen.insert(word).second) {
      throw yaml.error(key, fmt::format("the word '{}' is given twice", word));
    }
  }
  if (list.empty()) {
    throw yaml.error(key, "the list is empty");
  }
  return list;
}

KeyFormat read_keys(const YamlObject& yaml) {
  return {pattern(yaml, "pattern", {"{adjective}", "{noun}"}), words(yaml, "adjectives"), words(yaml, "nouns")};
}

NeedleFormat read_needles(const YamlObject& yaml) {
  NeedleFormat format;
  format.statements = words(yaml, "statements");
  for (const std::string& statement : format.statements) {
    if (statement.find("{k}") == statement.npos || statement.find("{v}") == statement.npos) {
      throw yaml.error("statements", "a text lacks the placeholder {k} or {v}").found(fmt::format("'{}'", statement));
    }
  }
  format.question = pattern(yaml, "question", {"{k}"});
  format.answer = pattern(yaml, "answer", {"{v}"});
  format.question_for_all = pattern(yaml, "question_for_all", {"{k}"});
  format.answer_for_all = pattern(yaml, "answer_for_all", {"{v}"});
  format.separator = yaml.get<std::string>("separator");
  return format;
}

KeyValueFormat read_key_value(const YamlObject& yaml) {
  KeyValueFormat format;
  format.opening = yaml.get<std::string>("opening");
  format.line = pattern(yaml, "line", {"{k}", "{v}"});
  format.closing = yaml.get<std::string>("closing");
  format.key_endings = yaml.get<std::string>("key_endings");
  const bool ascii = std::ranges::all_of(format.key_endings, [](char c) { return c > ' ' && c <= '~'; });
  const std::set<char> distinct(format.key_endings.begin(), format.key_endings.end());
  if (!ascii || distinct.empty() || distinct.size() != format.key_endings.size()) {
    throw yaml.error("key_endings", "not a row of different ASCII letters")
        .found(fmt::format("'{}'", format.key_endings));
  }
  format.question = pattern(yaml, "question", {"{k}"});
  format.answer = pattern(yaml, "answer", {"{v}"});
  return format;
}

CopyFormat read_copy(const YamlObject& yaml) {
  return {yaml.get<std::string>("before"), yaml.get<std::string>("after"), yaml.get<std::string>("question")};
}

VariableFormat read_variables(const YamlObject& yaml) {
  VariableFormat format;
  format.name_letters = whole(yaml, "name_letters", 2, 32);
  format.value_digits = whole(yaml, "value_digits", 2, 18);
  format.first = pattern(yaml, "first", {"{k}", "{v}"});
  format.next = pattern(yaml, "next", {"{k}", "{v}"});
  format.question = pattern(yaml, "question", {"{v}"});
  format.answer = pattern(yaml, "answer", {"{k}"});
  format.separator = yaml.get<std::string>("separator");
  return format;
}

KeyValueTask read_key_value_task(const YamlObject& yaml) {
  const auto share = yaml.get<std::vector<double>>("share");
  if (share.size() != 2 || !(share[0] > 0 && share[0] <= share[1] && share[1] < 1)) {
    throw yaml.error("share", "not a pair of bounds")
        .expected("[least, most], above 0 and below 1")
        .found(fmt::format("{}", share));
  }
  return {share[0], share[1]};
}

NeedlesTask read_needles_task(const YamlObject& yaml) {
  NeedlesTask task;
  task.needles = whole(yaml, "needles", 1);
  task.questions = whole(yaml, "questions", 1, task.needles);
  return task;
}

TaskKind read_task(const YamlObject& yaml) {
  static const std::vector<std::string> kKinds = {"copy",    "key_value",    "multi_value",
                                                  "needles", "running_text", "variable_tracking"};
  const auto kind = yaml.get<std::string>("kind");
  if (kind == "needles") {
    return read_needles_task(yaml);
  }
  if (kind == "multi_value") {
    return MultiValueTask{whole(yaml, "values", 1), whole(yaml, "other_needles", 0)};
  }
  if (kind == "key_value") {
    return read_key_value_task(yaml);
  }
  if (kind == "variable_tracking") {
    return VariableTrackingTask{bounds(yaml, "chains", 1, 1000), bounds(yaml, "hops", 1, 1000)};
  }
  if (kind == "copy") {
    return CopyTask{bounds(yaml, "passage_tokens", 1)};
  }
  if (kind == "running_text") {
    return RunningTextTask{whole(yaml, "scored_tokens", 1)};
  }
  throw yaml.error("kind", "unknown kind of task")
      .expected(fmt::format("{}", fmt::join(kKinds, ", ")))
      .found(fmt::format("'{}'", kind))
      .hint(did_you_mean(kind, kKinds));
}

}  // namespace

std::string fill_in(std::string_view pattern, const std::map<std::string, std::string>& values) {
  std::string text;
  while (!pattern.empty()) {
    const size_t brace = std::min(pattern.find('{'), pattern.size());
    text += pattern.substr(0, brace);
    pattern.remove_prefix(brace);
    const size_t end = pattern.find('}');
    const auto value = end == pattern.npos ? values.end() : values.find(std::string(pattern.substr(1, end - 1)));
    if (value != values.end()) {
      text += value->second;
      pattern.remove_prefix(end + 1);
    } else if (!pattern.empty()) {  // a brace that means itself
      text += '{';
      pattern.remove_prefix(1);
    }
  }
  return text;
}

std::string KeyFormat::key(int64_t index) const {
  const auto place = static_cast<size_t>(index);
  return fill_in(pattern, {{"adjective", adjectives[place / nouns.size()]}, {"noun", nouns[place % nouns.size()]}});
}

TaskFormats TaskFormats::parse(std::string_view yaml, std::string name) {
  const YamlObject file = YamlObject::parse(yaml, name);
  TaskFormats formats;
  formats.name = std::move(name);
  formats.prologue = file.get_or<std::string>("prologue", "");
  formats.keys = read_keys(file.object("keys"));
  formats.value_digits = whole(file, "value_digits", 2, 18);
  formats.needles = read_needles(file.object("needles"));
  formats.key_value = read_key_value(file.object("key_value"));
  formats.copy = read_copy(file.object("copy"));
  formats.variables = read_variables(file.object("variable_tracking"));
  const YamlObject tasks = file.object("tasks");
  for (const std::string& task : tasks.keys()) {
    formats.tasks.emplace(task, read_task(tasks.object(task)));
  }
  file.finish();
  return formats;
}

TaskFormats TaskFormats::read(const std::filesystem::path& path) {
  return parse(read_text_or_pipe(path), path.string());
}

const TaskFormats& TaskFormats::builtin() {
  static const TaskFormats formats = [] {
    const EmbeddedFile& file = builtin_task_files().front();
    return parse(file.content, std::string(file.name));
  }();
  return formats;
}

std::vector<std::string> TaskFormats::task_names() const {
  std::vector<std::string> names;
  for (const auto& [task_name, kind] : tasks) {
    names.push_back(task_name);
  }
  return names;
}

const TaskKind& TaskFormats::task(const std::string& task_name) const {
  const auto found = tasks.find(task_name);
  if (found == tasks.end()) {
    const std::vector<std::string> names = task_names();
    throw Error(fmt::format("there is no task '{}'", task_name))
        .file(name)
        .expected(fmt::format("one of {}", fmt::join(names, ", ")))
        .hint(did_you_mean(task_name, names));
  }
  return found->second;
}

}  // namespace retrosparse
