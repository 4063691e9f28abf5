#pragma once
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace retrosparse {

/// Lets a std::string_view be looked up in an unordered_map with keys of std::string.
struct StringHash {
  using is_transparent = void;
  size_t operator()(std::string_view text) const { return std::hash<std::string_view>()(text); }
};
template <typename Value>
using StringMap = std::unordered_map<std::string, Value, StringHash, std::equal_to<>>;

/// Tokens and their ids; an id may be free. Tokens are spelt as in tokenizer.json, that is, in the byte-level alphabet.
class Vocabulary {
 public:
  static constexpr int64_t kLargestId = (int64_t{1} << 22) - 1;  ///< far beyond any real one; bounds the table by id

  void reserve(size_t tokens) { id_of_.reserve(tokens); }

  /// Gives `id` (0 to kLargestId) to a token. False, and nothing is changed, if the token or the id is taken.
  bool add(std::string_view token, int32_t id);

  /// The same for an added token, which may take over an id. Decoding spells it `spelling`, its normal form.
  void add_over(std::string_view token, int32_t id, std::string spelling, bool special);

  size_t count() const { return id_of_.size(); }                         ///< tokens
  int64_t size() const { return static_cast<int64_t>(tokens_.size()); }  ///< the highest id + 1

  std::optional<int32_t> id_of(std::string_view token) const;
  bool contains(int64_t id) const;
  const std::string& token(int64_t id) const { return tokens_[static_cast<size_t>(id)].spelling; }  ///< contains(id)
  bool is_special(int64_t id) const { return tokens_[static_cast<size_t>(id)].special; }            ///< contains(id)

 private:
  struct Token {
    std::string spelling;
    bool used = false, special = false;
  };
  StringMap<int32_t> id_of_;
  std::vector<Token> tokens_;  // by id
};

}  // namespace retrosparse
