#include "text/added_tokens.h"

#include <algorithm>

#include "text/unicode.h"
#include "text/utf8.h"

namespace retrosparse {

const int32_t* AddedTokenMatcher::child(const Node& node, char byte) const {
  for (const auto& [label, index] : node.children) {
    if (label == byte) {
      return &index;
    }
  }
  return nullptr;
}

bool AddedTokenMatcher::add(std::string_view pattern, AddedToken token) {
  size_t node = 0;
  for (const char byte : pattern) {
    if (const int32_t* next = child(nodes_[node], byte)) {
      node = static_cast<size_t>(*next);
    } else {
      nodes_[node].children.emplace_back(byte, static_cast<int32_t>(nodes_.size()));
      node = nodes_.size();
      nodes_.emplace_back();
    }
  }
  if (nodes_[node].token >= 0) {
    return false;
  }
  nodes_[node].token = static_cast<int32_t>(tokens_.size());
  tokens_.push_back(std::move(token));
  first_bytes_[static_cast<unsigned char>(pattern.front())] = true;
  return true;
}

std::optional<AddedTokenMatcher::Match> AddedTokenMatcher::find(std::string_view text, size_t from) const {
  for (size_t begin = from; begin < text.size(); ++begin) {
    if (!first_bytes_[static_cast<unsigned char>(text[begin])]) {
      continue;
    }
    std::optional<Match> longest;
    const Node* node = &nodes_.front();
    for (size_t end = begin; end < text.size();) {
      const int32_t* next = child(*node, text[end]);
      if (next == nullptr) {
        break;
      }
      node = &nodes_[static_cast<size_t>(*next)];
      ++end;
      if (node->token >= 0) {
        longest = Match{begin, end, &tokens_[static_cast<size_t>(node->token)]};
      }
    }
    if (longest) {
      return longest;
    }
  }
  return std::nullopt;
}

bool AddedTokenMatcher::fits(const Match& match, std::string_view text) {
  if (!match.token->single_word) {
    return true;
  }
  const auto is_word = [&](size_t offset) { return unicode::token_word().contains(next_code_point(text, offset)); };
  return (match.begin == 0 || !is_word(previous_offset(text, match.begin))) &&
         (match.end == text.size() || !is_word(match.end));
}

std::pair<size_t, size_t> AddedTokenMatcher::with_white_space(const Match& match, std::string_view text, size_t done) {
  const auto is_space = [&](size_t offset) { return unicode::white_space().contains(next_code_point(text, offset)); };
  size_t begin = match.begin;
  size_t end = match.end;
  if (match.token->lstrip) {
    while (begin > 0 && is_space(previous_offset(text, begin))) {
      begin = previous_offset(text, begin);
    }
    begin = std::max(begin, done);
  }
  if (match.token->rstrip) {
    while (end < text.size() && is_space(end)) {
      end += utf8_size(text[end]);
    }
  }
  return {begin, end};
}

}  // namespace retrosparse
