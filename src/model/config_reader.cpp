#include "model/config_reader.h"

#include <fmt/format.h>

namespace retrosparse {

double number_in_range(const JsonObject& json, const std::string& key, double above, double at_most) {
  const auto value = json.get<double>(key);
  if (!(value > above && value <= at_most)) {
    throw json.out_of_range(key, fmt::format("a number above {:g}, at most {:g}", above, at_most));
  }
  return value;
}

int64_t ConfigReader::integer(const std::string& name, int64_t lowest, int64_t highest,
                              std::optional<int64_t> fallback) const {
  const std::string key = key_of(name);
  int64_t value = 0;
  if (json_.has(key)) {
    value = json_.get<int64_t>(key);
  } else if (const auto known = default_of(name)) {
    value = static_cast<int64_t>(*known);
  } else if (fallback) {
    value = *fallback;
  } else {
    value = json_.get<int64_t>(key);  // throws the error for a missing key
  }
  if (value < lowest || value > highest) {
    throw json_.error(key, "out of range")
        .expected(fmt::format("a whole number from {} to {}", lowest, highest))
        .found(std::to_string(value));
  }
  return value;
}

double ConfigReader::number(const std::string& name, double above, double at_most) const {
  const std::string key = key_of(name);
  const auto known = default_of(name);
  return !json_.has(key) && known ? *known : number_in_range(json_, key, above, at_most);
}

bool ConfigReader::feature(const Feature& feature) const {
  return feature.config_key.empty() ? feature.value : json_.get_or<bool>(feature.config_key, false);
}

std::optional<double> ConfigReader::default_of(const std::string& name) const {
  const auto found = family_.defaults.find(name);
  return found == family_.defaults.end() ? std::nullopt : std::optional(found->second);
}

std::string ConfigReader::key_of(const std::string& name) const {
  const auto names = family_.config_keys.find(name);
  if (names != family_.config_keys.end()) {
    for (const std::string& key : names->second) {
      if (json_.has(key)) {
        return key;
      }
    }
  }
  return name;
}

}  // namespace retrosparse
