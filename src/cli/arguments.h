#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace retrosparse::cli {

/// Token ids as a JSON array or separated by white space; `source` names the text in errors. May be none. Error:
/// something that is not a whole number.
std::vector<int64_t> parse_ids(std::string_view text, const std::string& source);

/// Error naming `source` where an id is not in [0, vocab_size).
void check_ids(const std::vector<int64_t>& ids, int64_t vocab_size, const std::string& source);

/// "4k,32k,1m" -> {4096, 32768, 1048576}: positive numbers of tokens, k = 1024, m = 1024 k. UsageError for others.
std::vector<int64_t> parse_lengths(const std::string& text);

/// "5.0,5.2" -> {{5, 0}, {5, 2}}: layer and query head. UsageError for others, and for what the model does not have.
std::vector<std::pair<int64_t, int64_t>> parse_heads(const std::string& text, int64_t num_layers, int64_t num_heads);

}  // namespace retrosparse::cli
