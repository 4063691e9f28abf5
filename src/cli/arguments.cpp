#include "cli/arguments.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <nlohmann/json.hpp>
#include <optional>

#include "base/error.h"
#include "cli/common.h"

namespace retrosparse::cli {
namespace {

constexpr std::string_view kSpaces = " \t\r\n";

std::optional<int64_t> whole_number(std::string_view text) {
  int64_t value = 0;
  const auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), value);
  return problem == std::errc() && end == text.data() + text.size() ? std::optional(value) : std::nullopt;
}

std::vector<std::string_view> split(std::string_view text, char separator) {
  std::vector<std::string_view> pieces;
  while (true) {
    const size_t end = text.find(separator);
    pieces.push_back(text.substr(0, end));
    if (end == text.npos) {
      return pieces;
    }
    text.remove_prefix(end + 1);
  }
}

std::vector<std::string_view> split_words(std::string_view text) {
  std::vector<std::string_view> words;
  for (size_t begin = text.find_first_not_of(kSpaces); begin != text.npos;) {
    const size_t end = std::min(text.find_first_of(kSpaces, begin), text.size());
    words.push_back(text.substr(begin, end - begin));
    begin = text.find_first_not_of(kSpaces, end);
  }
  return words;
}

Error not_an_id(const std::string& source, size_t index, std::string_view found) {
  constexpr size_t kShown = 40;
  return Error(fmt::format("entry {} is not a token id", index))
      .file(source)
      .expected("a whole number")
      .found(fmt::format("'{}'{}", found.substr(0, kShown), found.size() > kShown ? "..." : ""))
      .hint("a JSON array, or numbers separated by white space");
}

std::vector<int64_t> parse_json_ids(std::string_view text, const std::string& source) {
  const auto array = nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!array.is_array()) {
    throw Error("not a JSON array of token ids").file(source);
  }
  std::vector<int64_t> ids;
  for (const auto& entry : array) {
    // Unsigned values above int64 would wrap; they are no ids either.
    const bool fits = entry.is_number_integer() &&
                      (!entry.is_number_unsigned() || entry.get<uint64_t>() <= static_cast<uint64_t>(INT64_MAX));
    if (!fits) {
      throw not_an_id(source, ids.size(), entry.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
    }
    ids.push_back(entry.get<int64_t>());
  }
  return ids;
}

}  // namespace

std::vector<int64_t> parse_ids(std::string_view text, const std::string& source) {
  constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";
  if (text.starts_with(kByteOrderMark)) {
    text.remove_prefix(kByteOrderMark.size());
  }
  const size_t first = text.find_first_not_of(kSpaces);
  if (first != text.npos && text[first] == '[') {
    return parse_json_ids(text, source);
  }
  std::vector<int64_t> ids;
  for (const std::string_view word : split_words(text)) {
    const std::optional<int64_t> id = whole_number(word);
    if (!id) {
      throw not_an_id(source, ids.size(), word);
    }
    ids.push_back(*id);
  }
  return ids;
}

void check_ids(const std::vector<int64_t>& ids, int64_t vocab_size, const std::string& source) {
  const auto outside = std::ranges::find_if(ids, [&](int64_t id) { return id < 0 || id >= vocab_size; });
  if (outside != ids.end()) {
    throw Error(fmt::format("token {} is outside the vocabulary", outside - ids.begin()))
        .file(source)
        .expected(fmt::format("0 to {}", vocab_size - 1))
        .found(std::to_string(*outside));
  }
}

std::vector<int64_t> parse_lengths(const std::string& text) {
  constexpr int64_t kLongest = int64_t{1} << 40;  // far beyond every model, and safe to square in double
  std::vector<int64_t> lengths;
  for (std::string_view piece : split(text, ',')) {
    int64_t unit = 1;
    const std::string_view whole = piece;
    if (!piece.empty() && (piece.back() == 'k' || piece.back() == 'K')) {
      unit = 1024;
    } else if (!piece.empty() && (piece.back() == 'm' || piece.back() == 'M')) {
      unit = 1024 * 1024;
    }
    piece.remove_suffix(unit == 1 ? 0 : 1);
    const std::optional<int64_t> value = whole_number(piece);
    if (!value || *value < 1 || *value > kLongest / unit) {
      throw UsageError(fmt::format("--lengths: expected numbers of tokens as 4096,32k,1m, found '{}'", whole));
    }
    lengths.push_back(*value * unit);
  }
  return lengths;
}

std::vector<std::pair<int64_t, int64_t>> parse_heads(const std::string& text, int64_t num_layers, int64_t num_heads) {
  std::vector<std::pair<int64_t, int64_t>> heads;
  for (const std::string_view piece : split(text, ',')) {
    const std::vector<std::string_view> parts = split(piece, '.');
    const auto layer = whole_number(parts.front()), head = whole_number(parts.back());
    if (parts.size() != 2 || !layer || !head) {
      throw UsageError(fmt::format("--dense-heads: expected LAYER.HEAD as in 5.0,5.2, found '{}'", piece));
    }
    if (*layer < 0 || *layer >= num_layers || *head < 0 || *head >= num_heads) {
      throw UsageError(fmt::format("--dense-heads: no head {}; layers go from 0 to {}, heads from 0 to {}", piece,
                                   num_layers - 1, num_heads - 1));
    }
    heads.emplace_back(*layer, *head);
  }
  return heads;
}

}  // namespace retrosparse::cli
