#pragma once
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace retrosparse {

/// One YAML document as json: scalars by YAML 1.2's core schema, without octal and hexadecimal numbers, inf and nan;
/// null for a text without content. Adds to `lines` where each value stands, counted from 1, by its dotted path. `name`
/// is the file in errors. Error, with the line: not YAML, more than one document, aliases, a key twice or not plain
/// text.
nlohmann::json parse_yaml(std::string_view text, const std::string& name, std::map<std::string, int>& lines);

}  // namespace retrosparse
