#pragma once
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "text/splitter.h"

namespace retrosparse {

/// Cuts text into the pieces that the model merges within, in one or several steps: every piece of one step goes
/// through the next.
class PreTokenizer {
 public:
  /// Puts a space before a piece that does not begin with one.
  struct PrefixSpace {};
  using Step = std::variant<PrefixSpace, Splitter>;

  PreTokenizer() = default;
  explicit PreTokenizer(std::vector<Step> steps) : steps_(std::move(steps)) {}

  /// Memory for one split() at a time. Belongs to one pre-tokenizer.
  class Scratch {
   public:
    explicit Scratch(const PreTokenizer& owner) : matchers_(owner.steps_.size()), prefixed_(owner.steps_.size()) {}
    size_t capacity() const;

   private:
    friend class PreTokenizer;
    std::vector<PatternMatcher::Scratch> matchers_;  // one for each step, as all steps are under way at once
    std::vector<std::string> prefixed_;
  };

  /// Calls emit(std::string_view) for every piece; none is empty. `text` is valid UTF-8. Error: see Splitter::split.
  template <typename Emit>
  void split(std::string_view text, Scratch& scratch, Emit&& emit) const {
    if (!text.empty()) {
      run(0, text, scratch, emit);
    }
  }

 private:
  template <typename Emit>
  void run(size_t index, std::string_view text, Scratch& scratch, Emit& emit) const {
    if (index == steps_.size()) {
      emit(text);
    } else if (const auto* splitter = std::get_if<Splitter>(&steps_[index])) {
      splitter->split(text, scratch.matchers_[index],
                      [&](std::string_view piece) { run(index + 1, piece, scratch, emit); });
    } else if (text.front() == ' ') {
      run(index + 1, text, scratch, emit);
    } else {
      std::string& prefixed = scratch.prefixed_[index];
      prefixed = ' ';
      prefixed += text;
      run(index + 1, prefixed, scratch, emit);
    }
  }

  std::vector<Step> steps_;
};

}  // namespace retrosparse
