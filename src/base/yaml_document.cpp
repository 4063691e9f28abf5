#include "base/yaml_document.h"

#include <fmt/format.h>
#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/yaml.h>

#include <cctype>
#include <charconv>
#include <cmath>
#include <optional>
#include <sstream>
#include <utility>
#include <vector>

#include "base/error.h"

namespace retrosparse {

using nlohmann::json;

namespace {

template <typename Number>
std::optional<Number> whole_number(std::string_view text) {
  Number number{};
  const auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), number);
  return problem == std::errc() && end == text.data() + text.size() ? std::optional(number) : std::nullopt;
}

/// The value of an unquoted scalar by YAML 1.2's core schema, without its octal and hexadecimal numbers, inf and nan.
json plain_scalar(const std::string& text) {
  if (text.empty() || text == "~" || text == "null" || text == "Null" || text == "NULL") {
    return nullptr;
  }
  if (text == "true" || text == "True" || text == "TRUE") {
    return true;
  }
  if (text == "false" || text == "False" || text == "FALSE") {
    return false;
  }
  // std::from_chars knows no plus sign.
  const bool has_plus = text.size() > 1 && text[0] == '+' && (text[1] == '.' || (text[1] >= '0' && text[1] <= '9'));
  const std::string_view digits = std::string_view(text).substr(has_plus ? 1 : 0);
  if (const auto integer = whole_number<int64_t>(digits)) {
    return *integer;
  }
  if (const auto integer = whole_number<uint64_t>(digits)) {
    return *integer;
  }
  const auto number = whole_number<double>(digits);
  return number && std::isfinite(*number) ? json(*number) : json(text);
}

/// Builds a json value from the events of yaml-cpp's parser and notes the lines. Not from its nodes, since with these a
/// few aliases stand for billions of values, and its loader of several documents never ends on some malformed texts
/// (https://github.com/jbeder/yaml-cpp/issues/1040).
class Builder : public YAML::EventHandler {
 public:
  Builder(const std::string& file, std::map<std::string, int>& lines) : file_(file), lines_(lines) {}

  json take() { return std::move(root_); }

  void OnDocumentStart(const YAML::Mark&) override {}
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark& mark, YAML::anchor_t) override { add(mark, nullptr); }
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t) override { throw error(mark, path(), "aliases are not read"); }

  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t, const std::string& value) override {
    if (!open_.empty() && open_.back().value.is_object() && !open_.back().key) {
      open_.back().key = value;
      if (open_.back().value.contains(value)) {
        throw error(mark, path(), "given twice");
      }
      note_line(mark);
    } else {
      add(mark, tag == "?" ? plain_scalar(value) : json(value));  // "?": neither quoted nor tagged
    }
  }

  void OnSequenceStart(const YAML::Mark& mark, const std::string&, YAML::anchor_t, YAML::EmitterStyle::value) override {
    open(mark, json::array());
  }
  void OnMapStart(const YAML::Mark& mark, const std::string&, YAML::anchor_t, YAML::EmitterStyle::value) override {
    open(mark, json::object());
  }
  void OnSequenceEnd() override { close(); }
  void OnMapEnd() override { close(); }

 private:
  struct Container {
    json value;
    std::string path;
    std::optional<std::string> key;  // of the value that comes next
  };

  /// The dotted name of the value that comes next.
  std::string path() const {
    if (open_.empty()) {
      return "";
    }
    const Container& top = open_.back();
    if (top.value.is_array()) {
      return fmt::format("{}[{}]", top.path, top.value.size());
    }
    return top.path.empty() ? top.key.value_or("") : fmt::format("{}.{}", top.path, top.key.value_or(""));
  }

  void note_line(const YAML::Mark& mark) { lines_.emplace(path(), mark.line + 1); }

  void add(const YAML::Mark& mark, json value) {
    check_key(mark);
    note_line(mark);
    put(std::move(value));
  }

  void open(const YAML::Mark& mark, json empty) {
    check_key(mark);
    note_line(mark);
    open_.push_back({std::move(empty), path(), std::nullopt});
  }

  void close() {
    json value = std::move(open_.back().value);
    open_.pop_back();
    put(std::move(value));
  }

  void put(json value) {
    if (open_.empty()) {
      root_ = std::move(value);
    } else if (Container& top = open_.back(); top.value.is_array()) {
      top.value.push_back(std::move(value));
    } else {
      top.value[*std::exchange(top.key, std::nullopt)] = std::move(value);
    }
  }

  void check_key(const YAML::Mark& mark) const {
    if (!open_.empty() && open_.back().value.is_object() && !open_.back().key) {
      throw error(mark, open_.back().path, "a key has to be plain text");
    }
  }

  Error error(const YAML::Mark& mark, const std::string& key, std::string problem) const {
    return Error(std::move(problem)).file(fmt::format("{}:{}", file_, mark.line + 1)).key(key);
  }

  const std::string& file_;
  std::map<std::string, int>& lines_;
  std::vector<Container> open_;
  json root_;
};

}  // namespace

json parse_yaml(std::string_view text, const std::string& name, std::map<std::string, int>& lines) {
  Builder builder(name, lines);
  try {
    std::istringstream stream{std::string(text)};
    YAML::Parser parser(stream);
    parser.HandleNextDocument(builder);
    json value = builder.take();
    if (Builder rest(name, lines); parser.HandleNextDocument(rest)) {
      throw Error("more than one YAML document, or a stray character").file(name);
    }
    return value;
  } catch (const YAML::Exception& problem) {
    throw Error("not valid YAML: " + problem.msg).file(fmt::format("{}:{}", name, problem.mark.line + 1));
  }
}

}  // namespace retrosparse
