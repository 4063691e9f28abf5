#pragma once
#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace retrosparse {

/// A token that is looked for in the text as it stands, before the model sees what lies between (`added_tokens` of
/// tokenizer.json).
struct AddedToken {
  std::string content;
  int32_t id = 0;
  bool single_word = false;  ///< only where no word character is on either side
  bool lstrip = false;       ///< swallows the white space before it
  bool rstrip = false;       ///< swallows the white space behind it
  bool normalized = false;   ///< looked for after normalization, in its own normalized form
  bool special = false;      ///< a control token: can be kept out of decoded text, and left unparsed in encoded text
};

/// Finds added tokens in a text: from left to right, the longest where several begin at one place, none inside another.
class AddedTokenMatcher {
 public:
  AddedTokenMatcher() : nodes_(1) {}

  /// Looks for `pattern` (not empty) from now on and reports it as `token`. False if that pattern is taken.
  bool add(std::string_view pattern, AddedToken token);

  /// Calls text_part(std::string_view) and token_part(int32_t id) for what follows on each other in valid UTF-8; no
  /// part is empty. Without `parse_special`, special tokens are not reported and stay part of the text.
  template <typename TextPart, typename TokenPart>
  void split(std::string_view text, bool parse_special, TextPart&& text_part, TokenPart&& token_part) const {
    size_t done = 0;
    for (size_t from = 0; std::optional<Match> match = find(text, from);) {
      from = match->end;
      if ((match->token->special && !parse_special) || !fits(*match, text)) {
        continue;
      }
      const auto [begin, end] = with_white_space(*match, text, done);
      if (done < begin) {
        text_part(text.substr(done, begin - done));
      }
      if (begin < end) {  // else the white space of the token before was all of it
        token_part(match->token->id);
      }
      done = end;
    }
    if (done < text.size()) {
      text_part(text.substr(done));
    }
  }

 private:
  struct Match {
    size_t begin, end;
    const AddedToken* token;
  };
  struct Node {  // of a trie over the bytes of the patterns
    std::vector<std::pair<char, int32_t>> children;
    int32_t token = -1;
  };

  std::optional<Match> find(std::string_view text, size_t from) const;
  static bool fits(const Match& match, std::string_view text);
  static std::pair<size_t, size_t> with_white_space(const Match& match, std::string_view text, size_t done);
  const int32_t* child(const Node& node, char byte) const;

  std::vector<AddedToken> tokens_;
  std::vector<Node> nodes_;              // the first is the root
  std::array<bool, 256> first_bytes_{};  // whether a pattern begins with it
};

}  // namespace retrosparse
