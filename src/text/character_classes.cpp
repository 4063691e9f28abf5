#include "text/character_classes.h"

#include <algorithm>
#include <map>

#include "base/error.h"

namespace retrosparse {

CharacterClasses::CharacterClasses(const std::vector<CodePoints>& sets) : classes_in_(sets.size()) {
  // Between two neighbouring borders of any sets, membership in all of them is constant.
  std::vector<char32_t> borders = {0, CodePoints::kLast + 1};
  for (const CodePoints& set : sets) {
    for (const CodePoints::Range& range : set.ranges()) {
      borders.push_back(range.first);
      borders.push_back(range.last + 1);
    }
  }
  std::sort(borders.begin(), borders.end());
  borders.erase(std::unique(borders.begin(), borders.end()), borders.end());

  std::map<std::vector<bool>, uint8_t> class_with;  // by membership in each of the sets
  std::vector<uint8_t> class_of(CodePoints::kLast + 1);
  for (size_t i = 0; i + 1 < borders.size(); ++i) {
    std::vector<bool> membership;
    membership.reserve(sets.size());
    for (const CodePoints& set : sets) {
      membership.push_back(set.contains(borders[i]));
    }
    const auto [entry, is_new] = class_with.emplace(membership, static_cast<uint8_t>(class_with.size()));
    if (is_new) {
      if (class_with.size() > 256) {
        throw Error("the pattern tells more than 256 kinds of characters apart");
      }
      for (size_t set = 0; set < sets.size(); ++set) {
        if (membership[set]) {
          classes_in_[set].push_back(entry->second);
        }
      }
    }
    std::fill(class_of.begin() + borders[i], class_of.begin() + borders[i + 1], entry->second);
  }

  std::map<Page, uint16_t> index_of;
  for (size_t begin = 0; begin < class_of.size(); begin += kPageSize) {
    Page page;
    std::copy_n(class_of.begin() + static_cast<std::ptrdiff_t>(begin), kPageSize, page.begin());
    const auto [entry, is_new] = index_of.emplace(page, static_cast<uint16_t>(pages_.size()));
    if (is_new) {
      pages_.push_back(page);
    }
    page_of_.push_back(entry->second);
  }
}

size_t CharacterClasses::classify(std::string_view text, uint8_t* classes) const {
  const Page& ascii = pages_[page_of_[0]];
  uint8_t* next = classes;
  for (size_t offset = 0; offset < text.size();) {
    const auto byte = static_cast<unsigned char>(text[offset]);
    if (byte < 0x80) {
      *next++ = ascii[byte];
      ++offset;
    } else {
      *next++ = class_of(next_code_point(text, offset));
    }
  }
  return static_cast<size_t>(next - classes);
}

}  // namespace retrosparse
