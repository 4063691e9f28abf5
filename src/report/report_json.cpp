#include "report/report_json.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>

#include "base/suggest.h"
#include "report/check_report.h"
#include "report/report_fields.h"

namespace retrosparse {
namespace {

using nlohmann::json;
using nlohmann::ordered_json;

constexpr int64_t kVersion = 1;  // of the format

template <typename T>
inline constexpr bool is_vector = false;
template <typename T>
inline constexpr bool is_vector<std::vector<T>> = true;

template <typename T>
inline constexpr bool is_optional = false;
template <typename T>
inline constexpr bool is_optional<std::optional<T>> = true;

/// The structs of Report, whose fields report_fields.h lists.
template <typename T>
concept Section = requires {
  visit_fields(std::type_identity<T>(), [](const char*, auto) {});
};

// ---- to json

template <typename T>
ordered_json written(const T& value) {
  if constexpr (Section<T>) {
    ordered_json object = ordered_json::object();
    visit_fields(std::type_identity<T>(), [&](const char* name, auto member) {
      const auto& field = value.*member;
      if constexpr (is_optional<std::decay_t<decltype(field)>>) {
        if (field) {
          object[name] = written(*field);
        }
      } else {
        object[name] = written(field);
      }
    });
    return object;
  } else if constexpr (is_vector<T>) {
    ordered_json list = ordered_json::array();
    for (const auto& element : value) {
      list.push_back(written(element));
    }
    return list;
  } else if constexpr (std::is_same_v<T, double>) {
    return std::isfinite(value) ? ordered_json(value) : ordered_json();
  } else {
    return ordered_json(value);
  }
}

// ---- from json

template <typename T>
T element_of(const JsonObject& object, const std::string& key, const json& value) {
  const bool floating = std::is_same_v<T, double>;
  if (floating && value.is_null()) {
    return static_cast<T>(std::numeric_limits<double>::quiet_NaN());
  }
  if (floating ? !value.is_number() : !value.is_number_integer()) {
    throw object.error(key, "wrong type").expected(floating ? "a number" : "a whole number").found(value.type_name());
  }
  return value.get<T>();
}

template <typename T>
std::vector<std::vector<T>> read_table(const JsonObject& object, const std::string& key) {
  const json& rows = object.raw().at(key);
  if (!rows.is_array()) {
    throw object.wrong_type(key, "a list of lists of numbers");
  }
  std::vector<std::vector<T>> table;
  for (const json& row : rows) {
    const std::string row_key = fmt::format("{}[{}]", key, table.size());
    if (!row.is_array()) {
      throw object.error(row_key, "wrong type").expected("a list of numbers").found(row.type_name());
    }
    std::vector<T>& values = table.emplace_back();
    for (const json& value : row) {
      values.push_back(element_of<T>(object, fmt::format("{}[{}]", row_key, values.size()), value));
    }
  }
  return table;
}

template <Section T>
T read_section(const JsonObject& object);

template <typename T>
void read_field(const JsonObject& object, const char* key, T& field) {
  const bool present = object.raw().contains(key);
  if constexpr (is_optional<T>) {
    if (object.has(key)) {
      typename T::value_type value{};
      read_field(object, key, value);
      field = std::move(value);
    }
  } else if (!present) {
    throw object.error(key, "missing");
  } else if constexpr (Section<T>) {
    field = read_section<T>(object.object(key));
  } else if constexpr (std::is_same_v<T, std::vector<std::vector<double>>>) {
    field = read_table<double>(object, key);
  } else if constexpr (std::is_same_v<T, std::vector<std::vector<int64_t>>>) {
    field = read_table<int64_t>(object, key);
  } else if constexpr (is_vector<T>) {
    for (const JsonObject& element : object.objects(key)) {
      field.push_back(read_section<typename T::value_type>(element));
    }
  } else if constexpr (std::is_same_v<T, json>) {
    field = object.object(key).raw();
  } else if constexpr (std::is_same_v<T, double>) {
    field = object.has(key) ? object.get<double>(key) : std::numeric_limits<double>::quiet_NaN();
  } else {
    field = object.get<T>(key);
  }
}

void refuse_unknown_keys(const JsonObject& object, const std::vector<std::string>& known) {
  for (const std::string& key : object.keys()) {
    if (std::ranges::find(known, key) == known.end()) {
      throw object.error(key, "unknown key")
          .expected(fmt::format("{}", fmt::join(known, ", ")))
          .hint(did_you_mean(key, known));
    }
  }
}

template <Section T>
T read_section(const JsonObject& object) {
  std::vector<std::string> known;
  if (std::is_same_v<T, Report>) {
    known.emplace_back("version");
  }
  visit_fields(std::type_identity<T>(), [&](const char* name, auto) { known.emplace_back(name); });
  refuse_unknown_keys(object, known);  // first: a misspelt key would be reported as a missing one
  T section;
  visit_fields(std::type_identity<T>(),
               [&](const char* name, auto member) { read_field(object, name, section.*member); });
  return section;
}

}  // namespace

ordered_json report_json(const Report& report) {
  ordered_json object = {{"version", kVersion}};
  object.update(written(report));
  return object;
}

Report parse_report(const JsonObject& object) {
  if (object.get<int64_t>("version") != kVersion) {
    throw object.wrong_value("version", fmt::format("{} (a newer RetroSparse wrote this?)", kVersion));
  }
  auto report = read_section<Report>(object);
  check_report(report, object.file());
  return report;
}

}  // namespace retrosparse
