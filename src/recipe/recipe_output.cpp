// The ways out of a recipe: its values as JSON, and its documentation.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <nlohmann/json.hpp>

#include "recipe/recipe.h"
#include "recipe/recipe_fields.h"

namespace retrosparse {
namespace {

using nlohmann::ordered_json;

template <typename Enum>
using Choices = std::initializer_list<std::pair<const char*, Enum>>;

template <typename Enum>
const char* name_in(Choices<Enum> choices, Enum value) {
  const char* found = "";
  for (const auto& [name, choice] : choices) {
    found = choice == value ? name : found;
  }
  return found;
}

class Writer {
 public:
  template <typename T>
  void value(const char* key, const T& value, const char*) {
    (*place_)[key] = value;
  }
  template <typename T, typename Number>
  void value(const char* key, const T& value, const char*, Limits<Number>) {
    (*place_)[key] = value;
  }
  template <typename Enum>
  void choice(const char* key, Enum value, Choices<Enum> choices, const char*) {
    (*place_)[key] = name_in(choices, value);
  }
  template <typename Fields>
  void section(const char* key, const char*, const Fields& fields) {
    within((*place_)[key] = ordered_json::object(), fields);
  }
  template <typename Item, typename Fields>
  void list(const char* key, std::vector<Item>& items, const char*, const Fields& fields) {
    ordered_json& entries = (*place_)[key] = ordered_json::array();
    for (Item& item : items) {
      entries.push_back(ordered_json::object());
      within(entries.back(), [&] { fields(item); });
    }
  }

  ordered_json json = ordered_json::object();

 private:
  template <typename Fields>
  void within(ordered_json& place, const Fields& fields) {
    ordered_json* outer = std::exchange(place_, &place);
    fields();
    place_ = outer;
  }
  ordered_json* place_ = &json;
};

class Documenter {
 public:
  template <typename T>
  void value(const char* key, const T& value, const char* meaning) {
    row(key, ordered_json(value).dump(), meaning);
  }
  template <typename T, typename Number>
  void value(const char* key, const T& value, const char* meaning, Limits<Number>) {
    row(key, ordered_json(value).dump(), meaning);
  }
  template <typename Enum>
  void choice(const char* key, Enum value, Choices<Enum> choices, const char* meaning) {
    row(key, name_in(choices, value), meaning);
  }
  template <typename Fields>
  void section(const char* key, const char* meaning, const Fields& fields) {
    text += fmt::format("\n## {}: {}\n\n", key, meaning);
    begin_table();
    prefix_ = std::string(key) + ".";
    fields();
    prefix_.clear();
  }
  template <typename Item, typename Fields>
  void list(const char* key, std::vector<Item>&, const char* meaning, const Fields& fields) {
    row(key, "", fmt::format("{}: a list, each entry with", meaning));
    const std::string outer = std::exchange(prefix_, fmt::format("{}{}[].", prefix_, key));
    Item item;
    fields(item);
    prefix_ = outer;
  }

  void begin_table() { text += "| key | default | meaning |\n|---|---|---|\n"; }

  std::string text;

 private:
  void row(const char* key, const std::string& value, const std::string& meaning) {
    const bool nothing = value.empty() || value == "\"\"" || value == "[]";
    text += fmt::format("| `{}{}` | {} | {} |\n", prefix_, key, nothing ? "" : fmt::format("`{}`", value), meaning);
  }
  std::string prefix_;
};

}  // namespace

ordered_json Recipe::to_json() const {
  Recipe copy = *this;  // the one list of fields serves readers too, and takes references
  Writer writer;
  visit(writer, copy);
  return writer.json;
}

std::string Recipe::documentation() {
  Recipe defaults;
  Documenter documenter;
  documenter.text =
      "# Recipes\n\nWhat `retrosparse convert --recipe FILE` can be told. Whatever a recipe leaves out has its "
      "default; "
      "a key\nthat is not in this list is an error. `--set section.key=value` changes a recipe from the command "
      "line.\n\nThis page is what `retrosparse recipe` prints.\n\n";
  documenter.begin_table();
  visit(documenter, defaults);
  return documenter.text;
}

}  // namespace retrosparse
