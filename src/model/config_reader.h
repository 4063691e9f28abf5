#pragma once
#include <cstdint>
#include <optional>
#include <string>

#include "base/json.h"
#include "model/family.h"

namespace retrosparse {

inline constexpr int64_t kMaxPositions = int64_t{1} << 40;  ///< of a context: beyond all models

/// The number under a key of config.json, or of an object in it, which has to be above `above` and at most `at_most`.
/// Error naming file and key: missing, another type, out of range.
double number_in_range(const JsonObject& json, const std::string& key, double above, double at_most);

/// config.json seen through its family: a canonical name is looked up under each of its names, then in the defaults.
/// Every function throws Error naming file and key for a value that is missing, of another type or out of range.
class ConfigReader {
 public:
  /// Both must outlive this object.
  ConfigReader(const JsonObject& json, const Family& family) : json_(json), family_(family) {}

  /// A whole number in [lowest, highest]; the bounds catch absurd values before they become allocations.
  int64_t integer(const std::string& name, int64_t lowest, int64_t highest, std::optional<int64_t> fallback = {}) const;

  /// A number as number_in_range() gives it.
  double number(const std::string& name, double above, double at_most) const;

  /// Whether a feature of the family is on: by its key in config.json where it has one.
  bool feature(const Feature& feature) const;

  /// What the family assumes where config.json is silent.
  std::optional<double> default_of(const std::string& name) const;

 private:
  std::string key_of(const std::string& name) const;

  const JsonObject& json_;
  const Family& family_;
};

}  // namespace retrosparse
