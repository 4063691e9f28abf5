#include "text/pattern_matcher.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <new>
#include <string>

#include "base/error.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

namespace retrosparse {

namespace {

std::string message_of(int error) {
  std::array<PCRE2_UCHAR, 256> buffer{};
  pcre2_get_error_message(error, buffer.data(), buffer.size());
  return reinterpret_cast<const char*>(buffer.data());
}

/// The pattern over classes instead of characters, in PCRE2's syntax.
std::string byte_pattern(const PatternSyntax& syntax, const CharacterClasses& classes) {
  std::string pattern;
  for (const PatternSyntax::Element& element : syntax.elements) {
    if (element.set < 0) {
      pattern += element.syntax;
      continue;
    }
    pattern += '[';  // PCRE2_ALLOW_EMPTY_CLASS: an empty one matches nothing
    for (const uint8_t member : classes.classes_in(static_cast<size_t>(element.set))) {
      pattern += fmt::format("\\x{:02x}", member);
    }
    pattern += ']';
  }
  return pattern;
}

}  // namespace

PatternMatcher::PatternMatcher(const PatternSyntax& syntax) : classes_(syntax.sets) {
  const std::string pattern = byte_pattern(syntax, classes_);
  int error = 0;
  PCRE2_SIZE offset = 0;
  pcre2_code* code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(),
                                   PCRE2_ALLOW_EMPTY_CLASS, &error, &offset, nullptr);
  if (code == nullptr) {
    throw Error("not supported in a split pattern").found(message_of(error));
  }
  code_ = std::shared_ptr<const void>(code, [code](const void*) { pcre2_code_free(code); });
  error = pcre2_jit_compile(code, PCRE2_JIT_COMPLETE);
  if (error != 0 && error != PCRE2_ERROR_JIT_BADOPTION) {  // bad option: a PCRE2 built without JIT, which interprets
    throw Error("the split pattern cannot be compiled").found(message_of(error));
  }
}

struct PatternMatcher::Scratch::Engine {
  // Only nested repetitions use the stack; it grows on demand.
  static constexpr size_t kStackAtFirst = size_t{32} << 10, kStackAtMost = size_t{64} << 20;

  Engine()
      : match_data(pcre2_match_data_create(1, nullptr)),
        context(pcre2_match_context_create(nullptr)),
        stack(pcre2_jit_stack_create(kStackAtFirst, kStackAtMost, nullptr)) {
    if (match_data == nullptr || context == nullptr) {
      throw std::bad_alloc();
    }
    pcre2_jit_stack_assign(context, nullptr, stack);  // without a JIT compiler there is none, which is fine
  }
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;
  ~Engine() {
    pcre2_jit_stack_free(stack);
    pcre2_match_context_free(context);
    pcre2_match_data_free(match_data);
  }

  pcre2_match_data* match_data;
  pcre2_match_context* context;
  pcre2_jit_stack* stack;
};

PatternMatcher::Scratch::Scratch() : engine_(std::make_unique<Engine>()) {}
PatternMatcher::Scratch::~Scratch() = default;
PatternMatcher::Scratch::Scratch(Scratch&&) noexcept = default;

PatternMatcher::Cursor::Cursor(const PatternMatcher& matcher, std::string_view text, Scratch& scratch)
    : matcher_(matcher), text_(text), scratch_(scratch) {
  if (scratch.classes_.size() < text.size()) {
    scratch.classes_.resize(text.size());
  }
  length_ = matcher.classes_.classify(text, scratch.classes_.data());
  // Giving back a long run of characters one by one is no endless backtracking.
  static constexpr uint64_t kStepsAnyway = 10'000'000, kStepsPerCharacter = 8;
  const uint64_t limit = kStepsAnyway + kStepsPerCharacter * length_;
  pcre2_set_match_limit(scratch.engine_->context, static_cast<uint32_t>(std::min<uint64_t>(limit, UINT32_MAX)));
}

bool PatternMatcher::Cursor::next(Segment& segment) {
  if (match_waits_) {
    match_waits_ = false;
    segment = match_;
    done_ = match_.end;
    return true;
  }
  size_t begin = 0, end = 0;
  if (!find(begin, end)) {
    segment = {done_, text_.size(), false};
    done_ = text_.size();
    return segment.begin != segment.end;
  }
  match_ = {byte_offset(begin), 0, true};
  match_.end = byte_offset(end);
  if (match_.begin != done_) {
    match_waits_ = true;
    segment = {done_, match_.begin, false};
  } else {
    segment = match_;
  }
  done_ = segment.end;
  return true;
}

bool PatternMatcher::Cursor::find(size_t& begin, size_t& end) {
  while (search_from_ <= length_) {
    const int found = pcre2_match(static_cast<const pcre2_code*>(matcher_.code_.get()), scratch_.classes_.data(),
                                  length_, search_from_, 0, scratch_.engine_->match_data, scratch_.engine_->context);
    if (found == PCRE2_ERROR_NOMATCH) {
      search_from_ = length_ + 1;
      return false;
    }
    if (found < 0) {
      throw Error("the split pattern cannot cope with this text").found(message_of(found));
    }
    const PCRE2_SIZE* offsets = pcre2_get_ovector_pointer(scratch_.engine_->match_data);
    begin = offsets[0];
    end = offsets[1];
    if (begin != end || end != last_match_end_) {
      search_from_ = end;
      last_match_end_ = end;
      return true;
    }
    ++search_from_;
  }
  return false;
}

size_t PatternMatcher::Cursor::byte_offset(size_t code_points) {
  if (length_ == text_.size()) {
    return code_points;
  }
  for (; known_code_points_ < code_points; ++known_code_points_) {
    known_bytes_ += utf8_size(text_[known_bytes_]);
  }
  return known_bytes_;
}

}  // namespace retrosparse
