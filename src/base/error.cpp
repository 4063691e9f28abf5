#include "base/error.h"

#include <string_view>
#include <utility>

namespace retrosparse {

namespace {

/// Bytes of the UTF-8 character that `text` starts with; 0 where it starts with none. (Overlong forms and surrogates
/// are let pass: they do no harm in a message.)
size_t character_length(std::string_view text) {
  const auto first = static_cast<unsigned char>(text.front());
  const size_t length = first < 0x80   ? 1
                        : first < 0xc2 ? 0
                        : first < 0xe0 ? 2
                        : first < 0xf0 ? 3
                        : first < 0xf5 ? 4
                                       : 0;
  for (size_t i = 1; i < length; ++i) {
    if (i >= text.size() || (static_cast<unsigned char>(text[i]) & 0xc0) != 0x80) {
      return 0;
    }
  }
  return length;
}

/// Keeps a message on one line and a terminal from obeying it: names come from files that anybody may have written.
/// Control characters and what is not UTF-8 are shown as \x1b.
std::string printable(std::string_view text) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string result;
  while (!text.empty()) {
    const auto first = static_cast<unsigned char>(text.front());
    const size_t length = character_length(text);
    if (length == 0 || first < 0x20 || first == 0x7f) {
      result += {'\\', 'x', kDigits[first / 16], kDigits[first % 16]};
      text.remove_prefix(1);
    } else {
      result += text.substr(0, length);
      text.remove_prefix(length);
    }
  }
  return result;
}

}  // namespace

Error::Error(std::string problem) : problem_(std::move(problem)) {
  compose();
}

Error& Error::file(std::string path) {
  file_ = std::move(path);
  compose();
  return *this;
}

Error& Error::tensor(std::string name) {
  tensor_ = std::move(name);
  compose();
  return *this;
}

Error& Error::key(std::string name) {
  key_ = std::move(name);
  compose();
  return *this;
}

Error& Error::expected(std::string what) {
  expected_ = std::move(what);
  compose();
  return *this;
}

Error& Error::found(std::string what) {
  found_ = std::move(what);
  compose();
  return *this;
}

Error& Error::hint(std::string what) {
  hint_ = std::move(what);
  compose();
  return *this;
}

void Error::compose() {
  message_.clear();
  if (!file_.empty()) {
    message_ += file_ + ": ";
  }
  if (!tensor_.empty()) {
    message_ += "tensor '" + tensor_ + "': ";
  }
  if (!key_.empty()) {
    message_ += "key '" + key_ + "': ";
  }
  message_ += problem_;
  if (!expected_.empty()) {
    message_ += ": expected " + expected_;
  }
  if (!found_.empty()) {
    message_ += (expected_.empty() ? ": found " : ", found ") + found_;
  }
  if (!hint_.empty()) {
    message_ += " (" + hint_ + ")";
  }
  message_ = printable(message_);
}

}  // namespace retrosparse
