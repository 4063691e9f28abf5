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
  waiting_.push_back(id);
  std::string text = tokenizer_.decode(waiting_);
  if (text.ends_with(kReplacement)) {
    return "";
  }
  waiting_.clear();
  return text;
}

std::string TextStream::finish() {
  return tokenizer_.decode(std::exchange(waiting_, {}));
}

}  // namespace retrosparse::cli
