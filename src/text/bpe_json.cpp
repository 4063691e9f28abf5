#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <utility>

#include "text/byte_level.h"
#include "text/tokenizer_parts.h"

namespace retrosparse {

using nlohmann::json;

namespace {

/// Refuses another kind of model than BPE. Very old files do not name the kind.
void check_kind(const JsonObject& model) {
  const std::string kind = model.get_or<std::string>("type", model.has("merges") ? "BPE" : "");
  if (kind != "BPE") {
    throw model.error("type", "this kind of tokenizer is not supported")
        .expected("byte-level BPE")
        .found("'" + kind + "'");
  }
}

/// Refuses what byte-level BPE has no use for.
void check_options(const JsonObject& model) {
  const auto refuse = [&](std::string_view key, std::string_view reason) {
    throw model.error(key, fmt::format("a BPE tokenizer {} is not supported", reason)).expected("byte-level BPE");
  };
  if (model.get_or<bool>("byte_fallback", false)) {
    refuse("byte_fallback", "with byte fallback (SentencePiece)");
  }
  if (model.get_or<double>("dropout", 0.0) != 0.0) {
    refuse("dropout", "that drops merges at random");
  }
  for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    if (!model.get_or<std::string>(key, "").empty()) {
      refuse(key, "that marks the parts of words");
    }
  }
}

void read_vocabulary(const JsonObject& model, Vocabulary& vocabulary) {
  const JsonObject tokens = model.object("vocab");
  vocabulary.reserve(tokens.raw().size());
  for (const auto& [token, id] : tokens.raw().items()) {
    // One condition for everything that is no such id: negative, too large, or not an integer.
    if (!id.is_number_unsigned() || id.get<uint64_t>() > static_cast<uint64_t>(Vocabulary::kLargestId)) {
      std::string expected = fmt::format("an integer id from 0 to {}", Vocabulary::kLargestId);
      throw id.is_number_integer() ? tokens.out_of_range(token, std::move(expected))
                                   : tokens.wrong_type(token, std::move(expected));
    }
    if (!vocabulary.add(token, id.get<int32_t>())) {
      const std::string& other = vocabulary.token(id.get<int64_t>());
      throw tokens.error(token, fmt::format("its id {} belongs to '{}' as well", id.get<int64_t>(), other));
    }
  }
}

/// Both sides of a merge: ["a", "b"] or "a b".
std::pair<std::string_view, std::string_view> sides_of(const json& merge, const JsonObject& model, size_t rank) {
  if (merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string()) {
    return {merge[0].get_ref<const std::string&>(), merge[1].get_ref<const std::string&>()};
  }
  if (merge.is_string()) {
    const std::string_view text = merge.get_ref<const std::string&>();
    const size_t space = text.find(' ');
    if (space != std::string_view::npos && text.find(' ', space + 1) == std::string_view::npos) {
      return {text.substr(0, space), text.substr(space + 1)};
    }
  }
  throw model.error(fmt::format("merges[{}]", rank), "malformed merge").expected("[\"a\", \"b\"] or \"a b\"");
}

std::vector<BpeModel::Merge> read_merges(const JsonObject& model, const Vocabulary& vocabulary) {
  if (!model.has("merges") || !model.raw()["merges"].is_array()) {
    throw model.wrong_type("merges", "a list of merges");
  }
  const json& list = model.raw()["merges"];
  std::vector<BpeModel::Merge> merges;
  merges.reserve(list.size());
  for (const json& merge : list) {
    if (merge.is_string() && merge.get_ref<const std::string&>().starts_with("#version")) {
      continue;  // the first line of a merges.txt
    }
    const auto sides = sides_of(merge, model, merges.size());
    const auto id_of = [&](std::string_view token) {
      const std::optional<int32_t> id = vocabulary.id_of(token);
      if (!id) {
        throw model.error(fmt::format("merges[{}]", merges.size()), "a merge of tokens that are not in the vocabulary")
            .found(fmt::format("'{}' + '{}', and no '{}'", sides.first, sides.second, token));
      }
      return *id;
    };
    std::string merged(sides.first);
    merged += sides.second;
    merges.push_back({id_of(sides.first), id_of(sides.second), id_of(merged)});
  }
  return merges;
}

}  // namespace

BpeModel::Tables read_bpe_model(const JsonObject& model, Vocabulary& vocabulary) {
  check_kind(model);
  check_options(model);
  read_vocabulary(model, vocabulary);

  BpeModel::Tables tables;
  std::string missing;  // a byte without a token
  for (size_t byte = 0; byte < tables.byte_ids.size(); ++byte) {
    const std::string token = to_byte_level(std::string(1, static_cast<char>(byte)));
    tables.byte_ids[byte] = vocabulary.id_of(token).value_or(BpeModel::kNone);
    if (tables.byte_ids[byte] == BpeModel::kNone) {
      missing = token;
    }
  }
  const auto unknown = model.get_or<std::string>("unk_token", "");
  if (!unknown.empty() && !missing.empty()) {
    const std::optional<int32_t> id = vocabulary.id_of(unknown);
    if (!id) {
      throw model.error("unk_token", "not in the vocabulary, but needed").found(fmt::format("no token '{}'", missing));
    }
    tables.unknown_id = *id;
  }
  tables.fuse_unknown = model.get_or<bool>("fuse_unk", false);
  tables.merges = read_merges(model, vocabulary);
  if (model.get_or<bool>("ignore_merges", false)) {
    tables.whole_pieces.reserve(vocabulary.count());
    for (int64_t id = 0; id < vocabulary.size(); ++id) {
      if (vocabulary.contains(id)) {
        if (std::optional<std::string> bytes = from_byte_level(vocabulary.token(id))) {
          tables.whole_pieces.emplace(*std::move(bytes), static_cast<int32_t>(id));
        }
      }
    }
  }
  return tables;
}

}  // namespace retrosparse
