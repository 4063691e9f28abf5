#pragma once
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <vector>

namespace retrosparse::cli {

/// Writes to stdout. Error: it cannot be written (a full disk, say), so that a truncated file never passes for a whole.
void print(std::string_view text);

/// An indented JSON object and a newline.
void print_json(const nlohmann::ordered_json& object);

/// Rows of text under each other: the first column to the left, the others to the right. Widths are in characters.
class Table {
 public:
  explicit Table(std::vector<std::string> header) : rows_{std::move(header)} {}

  void add(std::vector<std::string> row) { rows_.push_back(std::move(row)); }

  /// All rows, each with `indent` spaces before it and a newline after it.
  std::string text(size_t indent = 2) const;

 private:
  std::vector<std::vector<std::string>> rows_;
};

/// "name        value", the value in a column of its own: a line of a description.
std::string field(std::string_view name, std::string_view value);

}  // namespace retrosparse::cli
