#pragma once
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"

namespace retrosparse {

/// A json object together with where it came from, so that every complaint names the file and the dotted key. Cheap to
/// copy; copies and inner objects share (and keep alive) one parsed document.
///
///   const JsonObject config = JsonObject::read(dir / "config.json");
///   const int64_t head_dim = config.get_or<int64_t>("head_dim", hidden_size / heads);
///   const double theta = config.object("rope_parameters").get<double>("rope_theta");
///
/// Where a key appears twice the last one counts, as in Python.
class JsonObject {
 public:
  /// Reads a whole file. Error: missing, unreadable, not json, or something else than an object at the top.
  static JsonObject read(const std::filesystem::path& path);

  /// One object a line, as in metrics.jsonl; empty lines are skipped, and messages name "FILE:LINE".
  static std::vector<JsonObject> read_lines(const std::filesystem::path& path);

  /// The same for text already in memory; `file` is the name used in messages.
  static JsonObject parse(std::string_view text, std::string file);

  /// The same for a document that was put together otherwise. Error: not an object at the top.
  static JsonObject from(nlohmann::json document, std::string file);

  /// Whether the key is present and not null.
  bool has(std::string_view key) const;

  /// The value of a key that has to be there. T is bool, int, int64_t, uint64_t, double, std::string, or a std::vector
  /// or std::map<std::string, ...> of int64_t, double or std::string. Types are not bent: an integer is fine where a
  /// double is asked for, 2.0 or "2" are not fine where an integer is. Error: missing or null, wrong type, out of T's
  /// range.
  template <typename T>
  T get(std::string_view key) const;

  /// The value of a key that may be missing or null. Error: wrong type, out of T's range.
  template <typename T>
  T get_or(std::string_view key, T fallback) const {
    return has(key) ? get<T>(key) : fallback;
  }

  /// The object under a key. Error: missing, null, or not an object.
  JsonObject object(std::string_view key) const;

  /// The same, but an empty object where the key is missing or null. Error: not an object.
  JsonObject object_or_empty(std::string_view key) const;

  /// The objects of the list under a key. Error: missing, null, not a list, or an entry that is not an object.
  std::vector<JsonObject> objects(std::string_view key) const;

  /// The keys of this object in alphabetical order, those with a null value included.
  std::vector<std::string> keys() const;

  /// An Error with the file and the dotted key filled in, for the caller to add to and throw.
  Error error(std::string_view key, std::string problem) const;

  /// An Error about a value that is there, and says what it found: a wrong type; a number that is too small or too
  /// large; anything else that it must not be.
  Error wrong_type(std::string_view key, std::string expected) const;
  Error out_of_range(std::string_view key, std::string expected) const;
  Error wrong_value(std::string_view key, std::string expected) const;

  /// The full name of a key of this object, from the top of the document: "rope_parameters.factor".
  std::string dotted(std::string_view key) const;

  const nlohmann::json& raw() const { return *value_; }
  const std::string& file() const { return *file_; }
  const std::string& path() const { return path_; }  ///< this object's own dotted name, empty at the top

 private:
  JsonObject(std::shared_ptr<const nlohmann::json> value, std::shared_ptr<const std::string> file, std::string path);

  const nlohmann::json* find(std::string_view key) const;     // null when missing
  const nlohmann::json& require(std::string_view key) const;  // Error when missing or null
  JsonObject inner(const nlohmann::json& value, std::string path) const;

  std::shared_ptr<const nlohmann::json> value_;  // shares ownership of the whole document
  std::shared_ptr<const std::string> file_;
  std::string path_;
};

}  // namespace retrosparse
