#include "export/exported_files.h"

#include <algorithm>
#include <span>

#include "export/load_converted.h"

namespace retrosparse {
namespace {

// A name that ends in '*' stands for all that begin like it.
constexpr std::string_view kCopied[] = {"tokenizer*", "special_tokens_map.json", "added_tokens.json",      "vocab.json",
                                        "merges.txt", "chat_template*",          "generation_config.json", "LICENSE*",
                                        "NOTICE*"};

constexpr std::string_view kWritten[] = {"config.json",
                                         "README.md",
                                         "model.safetensors",
                                         "model-*",
                                         "model.safetensors.index.json",
                                         "attention_retrosparse.py",
                                         "configuration_retrosparse.py",
                                         "functional_retrosparse.py",
                                         "modeling_retrosparse.py",
                                         kAdapterTensors,
                                         kAdapterSettings};

bool is_among(std::string_view name, std::span<const std::string_view> patterns) {
  return std::ranges::any_of(patterns, [&](std::string_view pattern) {
    return pattern.ends_with('*') ? name.starts_with(pattern.substr(0, pattern.size() - 1)) : name == pattern;
  });
}

}  // namespace

bool is_copied(std::string_view name) {
  return is_among(name, kCopied);
}

bool is_exported(std::string_view name) {
  return is_copied(name) || is_among(name, kWritten);
}

}  // namespace retrosparse
