#pragma once
#include <fmt/format.h>

#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "base/error.h"

/// How json values become the types that JsonObject::get gives, and what is said of those that do not. For json.cpp.
namespace retrosparse {

using nlohmann::json;

/// A value in words, short enough for an error message.
inline std::string describe(const json& value) {
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

inline constexpr char kWrongType[] = "wrong type", kOutOfRange[] = "out of range";

inline Error problem_with(std::string problem, const std::string& file, std::string key, const json& value,
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

}  // namespace retrosparse
