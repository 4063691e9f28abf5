#include "recipe/recipe.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "base/error.h"
#include "base/file.h"
#include "base/suggest.h"
#include "base/yaml.h"
#include "recipe/recipe_fields.h"

namespace retrosparse {
namespace {

/// Reads the settings that are there and leaves the others at their defaults.
class Reader {
 public:
  explicit Reader(const YamlObject& yaml) : yaml_(&yaml) {}

  template <typename T>
  void value(const char* key, T& value, const char*) {
    value = yaml_->get_or<T>(key, value);
  }

  template <typename T>
  void value(const char* key, T& number, const char*, Limits<T> limits) {
    number = yaml_->get_or<T>(key, number);
    check(key, number, limits);
  }

  template <typename T>
  void value(const char* key, std::vector<T>& numbers, const char*, Limits<T> limits) {
    numbers = yaml_->get_or<std::vector<T>>(key, numbers);
    if (numbers.empty()) {
      throw yaml_->error(key, "an empty list").expected("at least one value");
    }
    for (const T& number : numbers) {
      check(key, number, limits);
    }
  }

  template <typename Enum>
  void choice(const char* key, Enum& value, std::initializer_list<std::pair<const char*, Enum>> choices, const char*) {
    if (!yaml_->has(key)) {
      return;
    }
    const auto text = yaml_->get<std::string>(key);
    std::vector<std::string> names;
    for (const auto& [name, choice] : choices) {
      if (text == name) {
        value = choice;
        return;
      }
      names.emplace_back(name);
    }
    throw yaml_->error(key, "not a choice")
        .expected(fmt::format("{}", fmt::join(names, ", ")))
        .found(text)
        .hint(did_you_mean(text, names));
  }

  template <typename Fields>
  void section(const char* key, const char*, const Fields& fields) {
    const YamlObject inner = yaml_->object_or_empty(key);
    const YamlObject* outer = std::exchange(yaml_, &inner);
    fields();
    yaml_ = outer;
  }

  template <typename Item, typename Fields>
  void list(const char* key, std::vector<Item>& items, const char*, const Fields& fields) {
    const std::vector<YamlObject> entries = yaml_->has(key) ? yaml_->list(key) : std::vector<YamlObject>{};
    for (const YamlObject& entry : entries) {
      const YamlObject* outer = std::exchange(yaml_, &entry);
      fields(items.emplace_back());
      yaml_ = outer;
    }
  }

 private:
  template <typename T>
  void check(const char* key, T number, Limits<T> limits) const {
    if (!(number >= limits.low && number <= limits.high)) {
      throw yaml_->error(key, "out of bounds")
          .expected(limits.low == kAboveZero ? fmt::format("a number above 0, at most {}", limits.high)
                                             : fmt::format("{} to {}", limits.low, limits.high))
          .found(fmt::format("{}", number));
    }
  }

  const YamlObject* yaml_;
};

// What no single value shows to be wrong.
void check_together(const Recipe& recipe, const YamlObject& yaml) {
  const YamlObject data = yaml.object_or_empty("data"), plan = yaml.object_or_empty("plan");
  if (recipe.data.sources.empty()) {
    throw data.error("sources", "no text to work with").expected("at least one source");
  }
  for (const Recipe::Source& source : recipe.data.sources) {
    if (source.name.empty() || source.files.empty()) {
      throw data.error("sources", "a source without name or files");
    }
  }
  if ((recipe.data.held_out_share > 0) == (recipe.data.held_out_documents > 0)) {
    throw data.error("held_out_documents", "what is kept from training has to be given once")
        .expected("either held_out_share or held_out_documents above 0");
  }
  if (recipe.plan.window + recipe.plan.sink_tokens >= recipe.context_length) {
    throw plan.error("window", "nothing is beyond the window")
        .expected(fmt::format("window and sink_tokens below context_length = {}", recipe.context_length))
        .found(std::to_string(recipe.plan.window + recipe.plan.sink_tokens));
  }
  if (recipe.selection.gate.min_tokens > recipe.selection.gate.max_tokens) {
    throw yaml.object_or_empty("selection")
        .error("min_tokens", "above max_tokens")
        .expected(fmt::format("at most {}", recipe.selection.gate.max_tokens))
        .found(std::to_string(recipe.selection.gate.min_tokens));
  }
  if (const int64_t block = recipe.selection.tail_block; block > recipe.plan.window) {
    throw yaml.object_or_empty("selection")
        .error("tail_block", "longer than the window")
        .expected(fmt::format("at most {}", recipe.plan.window))
        .found(std::to_string(block));
  } else if (block > 0 && recipe.selection.rule == SelectionRule::kPaper) {
    throw yaml.object_or_empty("selection")
        .error("tail_block", "the paper's rule has no tail")
        .expected("0")
        .found(std::to_string(block));
  }
  if (recipe.index.index_dim % 2 != 0) {
    throw yaml.object_or_empty("index").error("index_dim", "not even").found(std::to_string(recipe.index.index_dim));
  }
  if (recipe.validate.speed_tokens == 1 || recipe.validate.speed_tokens >= recipe.context_length) {
    throw yaml.object_or_empty("validate")
        .error("speed_tokens", "out of range")
        .expected(fmt::format("0, or 2 to {}, what the context holds beside a prompt", recipe.context_length - 1))
        .found(std::to_string(recipe.validate.speed_tokens));
  }
  if (recipe.validate.tasks.empty()) {
    throw yaml.object_or_empty("validate").error("tasks", "nothing to measure").expected("at least one task");
  }
  if (recipe.calibrate.tasks.empty()) {  // the index is measured with them too
    throw yaml.object_or_empty("calibrate").error("tasks", "nothing to measure").expected("at least one task");
  }
  const Recipe::Calibrate& calibrate = recipe.calibrate;
  if (calibrate.enabled && recipe.selection.rule == SelectionRule::kTopP && !calibrate.min_tokens.empty() &&
      !calibrate.max_tokens.empty() &&
      std::ranges::min(calibrate.min_tokens) > std::ranges::max(calibrate.max_tokens)) {
    throw yaml.object_or_empty("calibrate")
        .error("min_tokens", "all above every max_tokens")
        .expected(fmt::format("one of at most {}", std::ranges::max(calibrate.max_tokens)))
        .found(std::to_string(std::ranges::min(calibrate.min_tokens)));
  }
}

}  // namespace

Recipe Recipe::parse(std::string_view text, const std::filesystem::path& path,
                     const std::vector<std::string>& settings) {
  const YamlObject yaml = YamlObject::parse(text, path.string(), settings);
  Recipe recipe;
  recipe.folder = path.parent_path();
  Reader reader(yaml);
  visit(reader, recipe);
  yaml.finish();
  check_together(recipe, yaml);
  return recipe;
}

Recipe Recipe::read(const std::filesystem::path& path, const std::vector<std::string>& settings) {
  return parse(read_text_or_pipe(path), path, settings);
}

}  // namespace retrosparse
