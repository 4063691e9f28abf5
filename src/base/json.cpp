#include "base/json.h"

#include <fmt/format.h>

#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <sstream>
#include <type_traits>
#include <utility>

#include "base/file.h"

namespace retrosparse {

using nlohmann::json;

namespace {

/// A value in words, short enough for an error message.
std::string describe(const json& value) {
  constexpr size_t kLongest = 60;
  switch (value.type()) {
    case json::value_t::object:
      return "an object";
    case json::value_t::array:
      return "a list";
    case json::value_t::string: {
      const auto& text = value.get_ref<const std::string&>();
      const bool cut = text.size() > kLongest;
      // `ignore` drops a character that the cut went through.
      return json(text.substr(0, kLongest)).dump(-1, ' ', false, json::error_handler_t::ignore) + (cut ? "..." : "");
    }
    default:
      return value.dump();  // null, a boolean or a number
  }
}

/// How one json value becomes a T: what messages call a T, and the value where it is one.
template <typename T>
struct Conversion;

template <>
struct Conversion<bool> {
  static constexpr const char* kName = "true or false";
  static std::optional<bool> read(const json& value) {
    return value.is_boolean() ? std::optional(value.get<bool>()) : std::nullopt;
  }
};

template <typename Integer>
std::optional<Integer> read_integer(const json& value) {
  if (value.is_number_unsigned()) {
    const auto number = value.get<uint64_t>();
    return std::in_range<Integer>(number) ? std::optional(static_cast<Integer>(number)) : std::nullopt;
  }
  if (value.is_number_integer()) {
    const auto number = value.get<int64_t>();
    return std::in_range<Integer>(number) ? std::optional(static_cast<Integer>(number)) : std::nullopt;
  }
  return std::nullopt;
}

template <>
struct Conversion<int> {
  static constexpr const char* kName = "a 32-bit integer";
  static std::optional<int> read(const json& value) { return read_integer<int>(value); }
};

template <>
struct Conversion<int64_t> {
  static constexpr const char* kName = "a 64-bit integer";
  static std::optional<int64_t> read(const json& value) { return read_integer<int64_t>(value); }
};

template <>
struct Conversion<uint64_t> {
  static constexpr const char* kName = "a non-negative 64-bit integer";
  static std::optional<uint64_t> read(const json& value) { return read_integer<uint64_t>(value); }
};

template <>
struct Conversion<double> {
  static constexpr const char* kName = "a number";
  static std::optional<double> read(const json& value) {
    return value.is_number() ? std::optional(value.get<double>()) : std::nullopt;
  }
};

template <>
struct Conversion<std::string> {
  static constexpr const char* kName = "a string";
  static std::optional<std::string> read(const json& value) {
    return value.is_string() ? std::optional(value.get<std::string>()) : std::nullopt;
  }
};

constexpr char kWrongType[] = "wrong type", kOutOfRange[] = "out of range";

Error problem_with(std::string problem, const std::string& file, std::string key, const json& value,
                   std::string expected) {
  return Error(std::move(problem)).file(file).key(std::move(key)).expected(std::move(expected)).found(describe(value));
}

/// About a value that is no T.
template <typename T>
Error not_a(const std::string& file, std::string key, const json& value) {
  // An integer that is no T although T holds integers can only be too large or too small.
  const bool out_of_range = std::is_integral_v<T> && !std::is_same_v<T, bool> && value.is_number_integer();
  return problem_with(out_of_range ? kOutOfRange : kWrongType, file, std::move(key), value, Conversion<T>::kName);
}

/// Converts `value` to a T; `key` is its full dotted name, for messages.
template <typename T>
struct Converter {
  static T convert(const json& value, const std::string& file, const std::string& key) {
    std::optional<T> result = Conversion<T>::read(value);
    if (!result) {
      throw not_a<T>(file, key, value);
    }
    return *std::move(result);
  }
};

template <typename T>
struct Converter<std::vector<T>> {
  static std::vector<T> convert(const json& value, const std::string& file, const std::string& key) {
    if (!value.is_array()) {
      throw problem_with(kWrongType, file, key, value, "a list");
    }
    std::vector<T> result;
    result.reserve(value.size());
    for (const json& element : value) {
      std::optional<T> converted = Conversion<T>::read(element);
      if (!converted) {
        throw not_a<T>(file, fmt::format("{}[{}]", key, result.size()), element);
      }
      result.push_back(*std::move(converted));
    }
    return result;
  }
};

template <typename T>
struct Converter<std::map<std::string, T>> {
  static std::map<std::string, T> convert(const json& value, const std::string& file, const std::string& key) {
    if (!value.is_object()) {
      throw problem_with(kWrongType, file, key, value, "an object");
    }
    std::map<std::string, T> result;
    for (const auto& [name, element] : value.items()) {
      std::optional<T> converted = Conversion<T>::read(element);
      if (!converted) {
        throw not_a<T>(file, key + "." + name, element);
      }
      result.emplace_hint(result.end(), name, *std::move(converted));
    }
    return result;
  }
};

}  // namespace

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
