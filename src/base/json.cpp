#include "base/json.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <sstream>
#include <utility>

#include "base/file.h"
#include "base/json_conversion.h"

namespace retrosparse {

using nlohmann::json;

JsonObject::JsonObject(std::shared_ptr<const json> value, std::shared_ptr<const std::string> file, std::string path)
    : value_(std::move(value)), file_(std::move(file)), path_(std::move(path)) {}

JsonObject JsonObject::read(const std::filesystem::path& path) {
  return parse(read_text(path), path.string());
}

std::vector<JsonObject> JsonObject::read_lines(const std::filesystem::path& path) {
  std::vector<JsonObject> objects;
  std::istringstream text(read_text(path));
  std::string line;
  for (int64_t number = 1; std::getline(text, line); ++number) {
    if (line.find_first_not_of(" \t\r") != std::string::npos) {
      objects.push_back(parse(line, fmt::format("{}:{}", path.string(), number)));
    }
  }
  return objects;
}

JsonObject JsonObject::parse(std::string_view text, std::string file) {
  if (text.find('\0') != std::string_view::npos) {  // the library would take it for the end of the text
    throw Error("not valid json: holds a zero byte").file(std::move(file));
  }
  json document;
  try {
    document = json::parse(text);
  } catch (const json::exception& problem) {  // a syntax error, invalid UTF-8, or a number like 1e999
    // The library's messages read "[json.exception.parse_error.101] parse error at line 1, ..."; its tag helps nobody.
    std::string_view what = problem.what();
    what.remove_prefix(what.starts_with('[') ? std::min(what.find("] ") + 2, what.size()) : 0);
    throw Error(fmt::format("not valid json: {}", what)).file(std::move(file));
  }
  return from(std::move(document), std::move(file));
}

JsonObject JsonObject::from(json document, std::string file) {
  if (!document.is_object()) {
    throw Error("not an object at the top").file(std::move(file)).expected("an object {...}").found(describe(document));
  }
  return JsonObject(std::make_shared<const json>(std::move(document)),
                    std::make_shared<const std::string>(std::move(file)), "");
}

bool JsonObject::has(std::string_view key) const {
  const json* value = find(key);
  return value != nullptr && !value->is_null();
}

template <typename T>
T JsonObject::get(std::string_view key) const {
  return Converter<T>::convert(require(key), *file_, dotted(key));
}

JsonObject JsonObject::object(std::string_view key) const {
  const json& value = require(key);
  if (!value.is_object()) {
    throw wrong_type(key, "an object");
  }
  return inner(value, dotted(key));
}

JsonObject JsonObject::object_or_empty(std::string_view key) const {
  static const json empty = json::object();
  return has(key) ? object(key) : inner(empty, dotted(key));
}

std::vector<JsonObject> JsonObject::objects(std::string_view key) const {
  const json& value = require(key);
  if (!value.is_array()) {
    throw wrong_type(key, "a list of objects");
  }
  std::vector<JsonObject> result;
  result.reserve(value.size());
  for (const json& element : value) {
    std::string path = fmt::format("{}[{}]", dotted(key), result.size());
    if (!element.is_object()) {
      throw problem_with(kWrongType, *file_, std::move(path), element, "an object");
    }
    result.push_back(inner(element, std::move(path)));
  }
  return result;
}

std::vector<std::string> JsonObject::keys() const {
  std::vector<std::string> result;
  for (const auto& [key, value] : value_->items()) {
    result.push_back(key);
  }
  return result;
}

Error JsonObject::error(std::string_view key, std::string problem) const {
  return Error(std::move(problem)).file(*file_).key(dotted(key));
}

Error JsonObject::wrong_type(std::string_view key, std::string expected) const {
  return problem_with(kWrongType, *file_, dotted(key), require(key), std::move(expected));
}

Error JsonObject::out_of_range(std::string_view key, std::string expected) const {
  return problem_with(kOutOfRange, *file_, dotted(key), require(key), std::move(expected));
}

Error JsonObject::wrong_value(std::string_view key, std::string expected) const {
  return problem_with("wrong value", *file_, dotted(key), require(key), std::move(expected));
}

const json* JsonObject::find(std::string_view key) const {
  const auto entry = value_->find(key);
  return entry == value_->end() ? nullptr : &*entry;
}

const json& JsonObject::require(std::string_view key) const {
  const json* value = find(key);
  if (value == nullptr) {
    throw error(key, "missing");
  }
  if (value->is_null()) {
    throw error(key, "is null, but a value is needed");
  }
  return *value;
}

JsonObject JsonObject::inner(const json& value, std::string path) const {
  return JsonObject(std::shared_ptr<const json>(value_, &value), file_, std::move(path));
}

std::string JsonObject::dotted(std::string_view key) const {
  const std::string_view shown = key.empty() ? "\"\"" : key;  // an empty key is a key, too
  return path_.empty() ? std::string(shown) : fmt::format("{}.{}", path_, shown);
}

template bool JsonObject::get<bool>(std::string_view) const;
template int JsonObject::get<int>(std::string_view) const;
template int64_t JsonObject::get<int64_t>(std::string_view) const;
template uint64_t JsonObject::get<uint64_t>(std::string_view) const;
template double JsonObject::get<double>(std::string_view) const;
template std::string JsonObject::get<std::string>(std::string_view) const;
template std::vector<int64_t> JsonObject::get(std::string_view) const;
template std::vector<double> JsonObject::get(std::string_view) const;
template std::vector<std::string> JsonObject::get(std::string_view) const;
template std::map<std::string, int64_t> JsonObject::get(std::string_view) const;
template std::map<std::string, double> JsonObject::get(std::string_view) const;
template std::map<std::string, std::string> JsonObject::get(std::string_view) const;

}  // namespace retrosparse
