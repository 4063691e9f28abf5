#include "data/document_reader.h"

#include <array>

#include "fuzz.h"
#include "scratch_file.h"
#include "text/utf8.h"

/// A file of training text. The first byte, a digit, says what its name ends in; the rest is its content.
RETROSPARSE_FUZZ_TARGET(bytes) {
  using namespace retrosparse;
  constexpr std::array kNames = {"a.txt", "a.jsonl", "a.txt.xz", "a.jsonl.gz", "a.txt.zst"};
  if (bytes.empty()) {
    return;
  }
  const char* name = kNames.at((static_cast<size_t>(bytes.front()) - '0') % kNames.size());
  read_documents(scratch_file(name, as_text(bytes.subspan(1))), [](Document&& document) {
    fuzz_check(!document.text.empty(), "a document has a text");
    fuzz_check(find_invalid_utf8(document.text) == std::string::npos, "a document is UTF-8");
    fuzz_check(!document.response || !document.response->empty(), "a response is not empty");
    fuzz_check(!document.response || find_invalid_utf8(*document.response) == std::string::npos, "it is UTF-8");
    fuzz_check(!document.origin.empty(), "it is known where a document comes from");
  });
}
