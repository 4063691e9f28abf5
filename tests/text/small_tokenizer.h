#pragma once
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "text/byte_level.h"
#include "text/tokenizer.h"

namespace retrosparse {

/// A tokenizer.json with the 256 byte tokens (id = byte), the given merges on top ("h e", ids from 256 on) and
/// nothing else: no special tokens, GPT-2's split. Tests change what they are about.
inline nlohmann::json small_tokenizer_json(const std::vector<std::string>& merges = {"h e", "l l", "he ll", "hell o",
                                                                                     "Ġ w"}) {
  nlohmann::json vocabulary;
  for (int byte = 0; byte < 256; ++byte) {
    vocabulary[to_byte_level(std::string(1, static_cast<char>(byte)))] = byte;
  }
  for (const std::string& merge : merges) {
    std::string token = merge;
    token.erase(token.find(' '), 1);
    vocabulary[token] = vocabulary.size();
  }
  const nlohmann::json byte_level = {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}};
  return {{"version", "1.0"},
          {"added_tokens", nlohmann::json::array()},
          {"normalizer", nullptr},
          {"pre_tokenizer", byte_level},
          {"post_processor", nullptr},
          {"decoder", byte_level},
          {"model", {{"type", "BPE"}, {"vocab", vocabulary}, {"merges", merges}}}};
}

inline Tokenizer tokenizer_of(const nlohmann::json& json) {
  return Tokenizer::from_json(JsonObject::parse(json.dump(), "tokenizer.json"));
}

/// An entry of added_tokens.
inline nlohmann::json added_token(std::string_view content, int64_t id,
                                  const nlohmann::json& flags = nlohmann::json::object()) {
  nlohmann::json token = {{"id", id},        {"content", content},  {"single_word", false}, {"lstrip", false},
                          {"rstrip", false}, {"normalized", false}, {"special", false}};
  token.update(flags);
  return token;
}

/// A pre-tokenizer that splits by a pattern.
inline nlohmann::json split_by(std::string_view pattern, std::string_view behavior = "Isolated", bool invert = false) {
  const nlohmann::json byte_level = {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", false}};
  const nlohmann::json split = {
      {"type", "Split"}, {"pattern", {{"Regex", pattern}}}, {"behavior", behavior}, {"invert", invert}};
  return {{"type", "Sequence"}, {"pretokenizers", {split, byte_level}}};
}

/// The message of the Error that a call throws; empty if it throws none.
template <typename Call>
std::string error_of(Call&& call) {
  try {
    call();
  } catch (const Error& problem) {
    return problem.what();
  }
  return "";
}

}  // namespace retrosparse
