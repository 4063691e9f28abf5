#include "base/yaml.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "base/file.h"
#include "base/suggest.h"
#include "base/yaml_document.h"

namespace retrosparse {

using nlohmann::json;

struct YamlObject::Document {
  std::map<std::string, int> lines;                                 // dotted path -> line, counted from 1
  std::map<std::string, std::string> settings;                      // dotted path -> "--set path=value"
  std::map<std::string, std::set<std::string, std::less<>>> asked;  // dotted path of a mapping -> keys asked for
};

namespace {

/// Whether a dotted path is `path` or leads to something in it: "data.sources[0].files" is within "data.sources".
bool is_within(std::string_view dotted, std::string_view path) {
  return dotted.starts_with(path) &&
         (dotted.size() == path.size() || dotted[path.size()] == '.' || dotted[path.size()] == '[');
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
  *place = parse_yaml(setting.substr(equals + 1), "--set " + setting, lines);
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
  json value = parse_yaml(text, name, document->lines);
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
  const std::string dotted = json_.dotted(key);
  const auto& lines = document_->lines;
  auto line = lines.find(dotted);
  for (const auto& [path, setting] : document_->settings) {
    // What the setting put there, something within it, or a section that only it speaks of.
    if (is_within(dotted, path) || (line == lines.end() && is_within(path, dotted))) {
      return setting;
    }
  }
  if (line == lines.end()) {
    line = lines.find(json_.path());  // a missing key: the mapping that should have it
  }
  return line == lines.end() ? file() : fmt::format("{}:{}", file(), line->second);
}

}  // namespace retrosparse
