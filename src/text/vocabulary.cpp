#include "text/vocabulary.h"

#include <utility>

namespace retrosparse {

bool Vocabulary::add(std::string_view token, int32_t id) {
  if (contains(id) || id_of_.contains(token)) {
    return false;
  }
  add_over(token, id, std::string(token), false);
  return true;
}

void Vocabulary::add_over(std::string_view token, int32_t id, std::string spelling, bool special) {
  if (id >= size()) {
    tokens_.resize(static_cast<size_t>(id) + 1);
  }
  id_of_.insert_or_assign(std::string(token), id);
  tokens_[static_cast<size_t>(id)] = {std::move(spelling), true, special};
}

std::optional<int32_t> Vocabulary::id_of(std::string_view token) const {
  const auto entry = id_of_.find(token);
  return entry == id_of_.end() ? std::nullopt : std::optional(entry->second);
}

bool Vocabulary::contains(int64_t id) const {
  return id >= 0 && id < size() && tokens_[static_cast<size_t>(id)].used;
}

}  // namespace retrosparse
