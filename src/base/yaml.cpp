#include "base/yaml.h"

#include <fmt/format.h>
#include <yaml-cpp/yaml.h>

#include <charconv>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <utility>

#include "base/file.h"
#include "base/suggest.h"

namespace retrosparse {

using nlohmann::json;

struct YamlObject::Document {
  std::map<std::string, int> lines;                                 // dotted path -> line, counted from 1
  std::map<std::string, std::set<std::string, std::less<>>> asked;  // dotted path of a mapping -> keys asked for
};

namespace {

constexpr int kDeepest = 64;
constexpr int kMostNodes = 100'000;  // a few lines of nested aliases stand for billions of nodes

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

/// Turns YAML nodes into json values and notes their lines.
class Converter {
 public:
  Converter(const std::string& file, std::map<std::string, int>& lines) : file_(file), lines_(lines) {}

  json convert(const YAML::Node& node, const std::string& path, int depth) {
    if (depth > kDeepest || ++nodes_ > kMostNodes) {
      throw error(node, path, "nested too deep or too large");
    }
    lines_.emplace(path, node.Mark().line + 1);
    switch (node.Type()) {
      case YAML::NodeType::Scalar:
        return node.Tag() == "?" ? plain_scalar(node.Scalar()) : json(node.Scalar());
      case YAML::NodeType::Sequence: {
        json list = json::array();
        for (const YAML::Node& element : node) {
          list.push_back(convert(element, fmt::format("{}[{}]", path, list.size()), depth + 1));
        }
        return list;
      }
      case YAML::NodeType::Map:
        return convert_map(node, path, depth);
      default:
        return nullptr;
    }
  }

 private:
  json convert_map(const YAML::Node& node, const std::string& path, int depth) {
    json object = json::object();
    for (const auto& entry : node) {
      if (!entry.first.IsScalar()) {
        throw error(entry.first, path, "a key has to be plain text");
      }
      const std::string& key = entry.first.Scalar();
      const std::string inner = path.empty() ? key : path + "." + key;
      if (object.contains(key)) {
        throw error(entry.first, inner, "given twice");
      }
      lines_.emplace(inner, entry.first.Mark().line + 1);
      object[key] = convert(entry.second, inner, depth + 1);
    }
    return object;
  }

  Error error(const YAML::Node& node, const std::string& path, std::string problem) const {
    return Error(std::move(problem)).file(fmt::format("{}:{}", file_, node.Mark().line + 1)).key(path);
  }

  const std::string& file_;
  std::map<std::string, int>& lines_;
  int nodes_ = 0;
};

}  // namespace

YamlObject::YamlObject(JsonObject object, std::shared_ptr<Document> document)
    : json_(std::move(object)), document_(std::move(document)) {
  document_->asked[json_.path()];  // opened: finish() looks into it
}

YamlObject YamlObject::read(const std::filesystem::path& path) {
  return parse(read_text(path), path.string());
}

YamlObject YamlObject::parse(std::string_view text, std::string name) {
  auto document = std::make_shared<Document>();
  json value = json::object();
  try {
    const std::vector<YAML::Node> nodes = YAML::LoadAll(std::string(text));
    if (nodes.size() > 1) {
      throw Error("more than one YAML document").file(std::move(name));
    }
    if (!nodes.empty() && !nodes[0].IsNull()) {
      if (!nodes[0].IsMap()) {
        throw Error("not a YAML mapping").file(std::move(name)).expected("lines like 'key: value'");
      }
      value = Converter(name, document->lines).convert(nodes[0], "", 0);
    }
  } catch (const YAML::Exception& problem) {
    throw Error("not valid YAML: " + problem.msg).file(fmt::format("{}:{}", name, problem.mark.line + 1));
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
  const auto& lines = document_->lines;
  auto line = lines.find(json_.dotted(key));
  if (line == lines.end()) {
    line = lines.find(json_.path());  // a missing key: the mapping that should have it
  }
  return line == lines.end() ? file() : fmt::format("{}:{}", file(), line->second);
}

}  // namespace retrosparse
