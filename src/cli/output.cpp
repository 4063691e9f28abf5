#include "cli/output.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "base/file.h"

namespace retrosparse::cli {

void print(std::string_view text) {
  if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size() || std::fflush(stdout) != 0) {
    throw file_error("standard output", "write");
  }
}

void print_json(const nlohmann::ordered_json& object) {
  // File names may hold bytes that are not UTF-8; they become replacement characters.
  print(object.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n");
}

std::string Table::text(size_t indent) const {
  std::vector<size_t> widths;
  for (const auto& row : rows_) {
    widths.resize(std::max(widths.size(), row.size()));
    for (size_t column = 0; column < row.size(); ++column) {
      widths[column] = std::max(widths[column], row[column].size());
    }
  }
  std::string text;
  for (const auto& row : rows_) {
    text.append(indent, ' ');
    for (size_t column = 0; column < row.size(); ++column) {
      const std::string cell = column == 0 ? fmt::format("{:<{}}", row[column], widths[column])
                                           : fmt::format("  {:>{}}", row[column], widths[column]);
      text += cell;
    }
    text.erase(text.find_last_not_of(' ') + 1);
    text += '\n';
  }
  return text;
}

std::string field(std::string_view name, std::string_view value) {
  return fmt::format("  {:<18}{}\n", name, value);
}

}  // namespace retrosparse::cli
