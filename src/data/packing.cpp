#include "data/packing.h"

#include <algorithm>
#include <utility>

namespace retrosparse {

namespace {

class Packer {
 public:
  Packer(int64_t context_length, const SpecialTokens& special)
      : context_length_(context_length),
        prefix_(static_cast<int64_t>(special.begin_of_text.size())),
        room_(context_length) {}

  void add_text(uint32_t document, int64_t size) {
    const int64_t longest = context_length_ - prefix_;
    int64_t begin = 0;
    for (; size - begin >= longest; begin += longest) {
      samples_.push_back({{document, begin, begin + longest, false}});
    }
    const auto is_left = [&] {
      const bool only_end_of_text = begin > 0 && size - begin == 1;
      return begin < size && !only_end_of_text;
    };
    while (is_left()) {
      const int64_t count = std::min(size - begin, std::max<int64_t>(room_ - prefix_, 0));
      append({document, begin, begin + count, false});
      begin += count;
    }
  }

  void add_prompt_with_response(uint32_t document, int64_t size) {
    if (prefix_ + size > room_) {
      append({document, 0, room_, false});  // assemble() cuts it
    }
    append({document, 0, size, true});
  }

  std::vector<std::vector<Fragment>> samples() && { return std::move(samples_); }

 private:
  void append(const Fragment& fragment) {
    open_.push_back(fragment);
    room_ -= prefix_ + fragment.end - fragment.begin;
    if (room_ <= 0) {
      samples_.push_back(std::exchange(open_, {}));
      room_ = context_length_;
    }
  }

  int64_t context_length_, prefix_;
  std::vector<std::vector<Fragment>> samples_;
  std::vector<Fragment> open_;  // the sample that is being packed
  int64_t room_;                // in it
};

}  // namespace

std::vector<std::vector<Fragment>> pack(const Documents& documents, const std::vector<uint32_t>& order,
                                        int64_t context_length, const SpecialTokens& special) {
  Packer packer(context_length, special);
  for (const uint32_t index : order) {
    const int64_t size = documents[index]->size() + 1;  // with the end of text
    if (documents[index]->has_response()) {
      packer.add_prompt_with_response(index, size);
    } else {
      packer.add_text(index, size);
    }
  }
  return std::move(packer).samples();
}

Sample assemble(const Documents& documents, const std::vector<Fragment>& fragments, int64_t context_length,
                const SpecialTokens& special) {
  Sample sample;
  sample.ids.reserve(static_cast<size_t>(context_length));
  for (const Fragment& fragment : fragments) {
    const TokenizedDocument& document = *documents[fragment.document];
    sample.document_starts.push_back(static_cast<int64_t>(sample.ids.size()));
    sample.ids.insert(sample.ids.end(), special.begin_of_text.begin(), special.begin_of_text.end());
    if (fragment.labelled) {
      const int64_t offset = static_cast<int64_t>(sample.ids.size()) - fragment.begin;
      sample.labels.push_back({offset + document.response.begin, offset + document.response.end});
    }
    const auto first = document.ids.begin() + fragment.begin;
    sample.ids.insert(sample.ids.end(), first, document.ids.begin() + std::min(fragment.end, document.size()));
    if (fragment.end > document.size()) {
      sample.ids.push_back(special.end_of_text);
    }
  }
  sample.ids.resize(static_cast<size_t>(context_length));
  return sample;
}

}  // namespace retrosparse
