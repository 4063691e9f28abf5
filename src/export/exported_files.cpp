#include "export/exported_files.h"

#include <algorithm>
#include <span>
#include <string>

#include "base/error.h"
#include "export/load_converted.h"

namespace retrosparse {

namespace fs = std::filesystem;

namespace {

// A name that ends in '*' stands for all that begin like it.
constexpr std::string_view kCopied[] = {"tokenizer*", "special_tokens_map.json", "added_tokens.json",      "vocab.json",
                                        "merges.txt", "chat_template*",          "generation_config.json", "LICENSE*",
                                        "NOTICE*"};

constexpr std::string_view kWritten[] = {
    "config.json", "README.md", "model.safetensors", "model.safetensors.index.json", kAdapterTensors, kAdapterSettings};

bool is_among(std::string_view name, std::span<const std::string_view> patterns) {
  return std::ranges::any_of(patterns, [&](std::string_view pattern) {
    return pattern.ends_with('*') ? name.starts_with(pattern.substr(0, pattern.size() - 1)) : name == pattern;
  });
}

// model-00001-of-00002.safetensors
bool is_shard(std::string_view name) {
  constexpr std::string_view kPattern = "model-00000-of-00000.safetensors";
  return std::ranges::equal(name, kPattern, [](char found, char wanted) {
    return wanted == '0' ? found >= '0' && found <= '9' : found == wanted;
  });
}

}  // namespace

bool is_copied(std::string_view name) {
  return is_among(name, kCopied);
}

bool is_exported(const fs::directory_entry& entry) {
  const std::string name = entry.path().filename().string();
  const bool is_code = std::ranges::any_of(
      builtin_engine_files(), [&](const EmbeddedFile& file) { return name == std::string(file.name) + ".py"; });
  return entry.is_regular_file() && (is_copied(name) || is_code || is_among(name, kWritten) || is_shard(name));
}

void refuse_files_of_others(const fs::path& folder) {
  if (!fs::is_directory(folder)) {
    return;
  }
  for (const fs::directory_entry& entry : fs::directory_iterator(folder)) {
    if (!is_exported(entry)) {
      throw Error("will not be replaced: no export wrote this").file(entry.path().string()).hint("move it away");
    }
  }
}

}  // namespace retrosparse
