#include "cli/text_stream.h"

#include <utility>

#include "base/error.h"
#include "base/log.h"

namespace retrosparse::cli {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";  // U+FFFD: what decoding makes of half a character

}  // namespace

std::string TextStream::push(int64_t id) {
  try {
    tokenizer_.id_to_token(id);
  } catch (const Error&) {
    log_warning("the model gave token {}, which the tokenizer does not have", id);
    return "";
  }
  if (tokenizer_.is_special(id)) {
    return "";
  }
  waiting_.push_back(id);
  return tokenizer_.decode(waiting_).ends_with(kReplacement) ? "" : finish();
}

std::string TextStream::finish() {
  if (waiting_.empty()) {
    return "";
  }
  const std::string before = std::exchange(begun_, true) ? tokenizer_.separator() : "";
  return before + tokenizer_.decode(std::exchange(waiting_, {}));
}

}  // namespace retrosparse::cli
