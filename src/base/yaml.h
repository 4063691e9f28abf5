#pragma once
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"

namespace retrosparse {

/// A YAML mapping read with types: JsonObject for files that people write. Errors name file, line and dotted key, and
/// finish() refuses keys that nobody asked for, naming the nearest right one:
///   recipe.yaml:12: key 'train.warmup_step': unknown key (did you mean 'warmup_steps'?)
///
/// Scalars follow YAML 1.2: true and false are booleans (yes, no, on, off are text), 1e-3 is a number, whatever is
/// quoted is text. One document a file; a key may be given once.
class YamlObject {
 public:
  /// Reads a whole file; an empty one is an empty mapping. Error: missing, unreadable, not YAML, not a mapping at the
  /// top, a key given twice.
  static YamlObject read(const std::filesystem::path& path);

  /// The same for embedded text; `name` takes the place of the file in messages.
  static YamlObject parse(std::string_view text, std::string name);

  /// The same with some values given elsewhere, each as "dotted.key=VALUE" where VALUE is YAML ("3", "[a, b]"): they
  /// are set or replaced, before anything is asked for. Messages about them name "--set dotted.key=VALUE". Error: text
  /// without '=', a value that is not YAML, a key that leads into something else than a mapping.
  static YamlObject parse(std::string_view text, std::string name, const std::vector<std::string>& settings);

  /// Whether the key is present and not null. Like every question it makes the key a known one.
  bool has(std::string_view key) const;

  /// As JsonObject::get, with the same T.
  template <typename T>
  T get(std::string_view key) const {
    return at_line(key, [&] { return json_.get<T>(key); });
  }

  /// As JsonObject::get_or.
  template <typename T>
  T get_or(std::string_view key, T fallback) const {
    return at_line(key, [&] { return json_.get_or<T>(key, std::move(fallback)); });
  }

  /// The mapping under a key. Error: missing, null, not a mapping.
  YamlObject object(std::string_view key) const;

  /// The same, but an empty mapping where the key is missing or null: a section whose keys all have defaults.
  YamlObject object_or_empty(std::string_view key) const;

  /// The mappings of the list under a key. Error: missing, null, not a list, an entry that is not a mapping.
  std::vector<YamlObject> list(std::string_view key) const;

  /// All keys of this mapping; asking for a key's value is what makes it known, not this.
  std::vector<std::string> keys() const { return json_.keys(); }

  /// An Error with file, line and dotted key filled in.
  Error error(std::string_view key, std::string problem) const;

  /// Error when this mapping, or one inside it that was opened, holds a key that was never asked for. Call it on the
  /// top mapping when everything has been read.
  void finish() const;

  const nlohmann::json& raw() const { return json_.raw(); }
  const std::string& file() const { return json_.file(); }

 private:
  struct Document;  // the lines, and which keys were asked for; shared by all mappings of a file
  YamlObject(JsonObject object, std::shared_ptr<Document> document);

  void ask(std::string_view key) const;
  std::string position(std::string_view key) const;  // "recipe.yaml:12"

  /// Runs `read` and puts the key's line into an Error that it throws.
  template <typename Read>
  auto at_line(std::string_view key, Read read) const {
    ask(key);
    try {
      return read();
    } catch (Error& error) {
      throw error.file(position(key));
    }
  }

  JsonObject json_;
  std::shared_ptr<Document> document_;
};

}  // namespace retrosparse
