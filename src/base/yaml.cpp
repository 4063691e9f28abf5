#include "base/yaml.h"

#include <fmt/format.h>
#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <sstream>
#include <utility>

#include "base/file.h"
#include "base/suggest.h"

namespace retrosparse {

using nlohmann::json;

struct YamlObject::Document {
  std::map<std::string, int> lines;                                 // dotted path -> line, counted from 1
  std::map<std::string, std::string> settings;                      // dotted path -> "--set path=value"
  std::map<std::string, std::set<std::string, std::less<>>> asked;  // dotted path of a mapping -> keys asked for
};

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
  if (const auto integer = whole_number<int64_t>(text)) {
    return *integer;
  }
  const auto number = whole_number<double>(text);
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

json parse_document(std::string_view text, const std::string& name, std::map<std::string, int>& lines) {
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

/// Puts "dotted.key=VALUE" into `root` and returns the key.
std::string apply_setting(json& root, const std::string& setting) {
  const size_t equals = setting.find('=');
  if (equals == std::string::npos || equals == 0) {
    throw Error("not a setting").file("--set " + setting).expected("section.key=value");
  }
  std::string path = setting.substr(0, equals);
  std::map<std::string, int> lines;
  json* place = &root;
  for (size_t begin = 0, end = 0; end != path.size(); begin = end + 1) {
    end = std::min(path.find('.', begin), path.size());
    if (place->is_null()) {
      *place = json::object();
    }
    if (!place->is_object()) {
      throw Error("not a key that can be set").file("--set " + setting).expected("a mapping above it");
    }
    place = &(*place)[path.substr(begin, end - begin)];
  }
  *place = parse_document(setting.substr(equals + 1), "--set " + setting, lines);
  return path;
}

}  // namespace

YamlObject::YamlObject(JsonObject object, std::shared_ptr<Document> document)
    : json_(std::move(object)), document_(std::move(document)) {
  document_->asked[json_.path()];  // opened: finish() looks into it
}

YamlObject YamlObject::read(const std::filesystem::path& path) {
  return parse(read_text(path), path.string());
}

YamlObject YamlObject::parse(std::string_view text, std::string name) {
  return parse(text, std::move(name), {});
}

YamlObject YamlObject::parse(std::string_view text, std::string name, const std::vector<std::string>& settings) {
  auto document = std::make_shared<Document>();
  json value = parse_document(text, name, document->lines);
  if (value.is_null()) {
    value = json::object();  // nothing but comments
  }
  if (!value.is_object()) {
    throw Error("not a YAML mapping").file(std::move(name)).expected("lines like 'key: value'");
  }
  for (const std::string& setting : settings) {
    const std::string path = apply_setting(value, setting);
    document->settings[path] = "--set " + setting;
  }
  return YamlObject(JsonObject::from(std::move(value), std::move(name)), std::move(document));
}

bool YamlObject::has(std::string_view key) const {
  ask(key);
  return json_.has(key);
}

YamlObject YamlObject::object(std::string_view key) const {
  return at_line(key, [&] { return YamlObject(json_.object(key), document_); });
}

YamlObject YamlObject::object_or_empty(std::string_view key) const {
  return at_line(key, [&] { return YamlObject(json_.object_or_empty(key), document_); });
}

std::vector<YamlObject> YamlObject::list(std::string_view key) const {
  return at_line(key, [&] {
    std::vector<YamlObject> result;
    for (JsonObject& element : json_.objects(key)) {
      result.push_back(YamlObject(std::move(element), document_));
    }
    return result;
  });
}

Error YamlObject::error(std::string_view key, std::string problem) const {
  return json_.error(key, std::move(problem)).file(position(key));
}

void YamlObject::finish() const {
  const std::set<std::string, std::less<>>& asked = document_->asked.at(json_.path());
  for (const std::string& key : json_.keys()) {
    if (!asked.contains(key)) {
      const std::vector<std::string> known(asked.begin(), asked.end());
      throw error(key, "unknown key").hint(did_you_mean(key, known));
    }
    const json& value = json_.raw().at(key);
    const std::string path = json_.dotted(key);
    if (value.is_object() && document_->asked.contains(path)) {
      object(key).finish();
    } else if (value.is_array() && document_->asked.contains(path + "[0]")) {
      for (const YamlObject& element : list(key)) {
        element.finish();
      }
    }
  }
}

void YamlObject::ask(std::string_view key) const {
  document_->asked[json_.path()].emplace(key);
}

std::string YamlObject::position(std::string_view key) const {
  const auto& settings = document_->settings;
  if (const auto setting = settings.find(json_.dotted(key)); setting != settings.end()) {
    return setting->second;
  }
  const auto& lines = document_->lines;
  auto line = lines.find(json_.dotted(key));
  if (line == lines.end()) {
    line = lines.find(json_.path());  // a missing key: the mapping that should have it
  }
  return line == lines.end() ? file() : fmt::format("{}:{}", file(), line->second);
}

}  // namespace retrosparse
