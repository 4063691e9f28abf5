#pragma once
#include <cstdint>
#include <vector>

#include "data/corpus.h"
#include "data/sample.h"
#include "data/special_tokens.h"

namespace retrosparse {

/// A part of a document in a sample: its tokens [begin, end), where the token behind the document's last one is the end
/// of text. What the tokenizer puts before a text stands before every fragment, so that the first token of a sample is
/// one that the model knows as a first token.
struct Fragment {
  uint32_t document = 0;
  int64_t begin = 0, end = 0;
  bool labelled = false;  ///< the response's tokens are labels here
};

/// Cuts documents into samples, in the given order of their indices.
/// - Running text of a sample's length or more first fills samples of its own, one behind the other in the document.
/// - What is left of it, and shorter running text, is packed; a sample's end cuts a text, which goes on in the next
/// one.
/// - A prompt with its response is packed whole (it has to fit); where the rest of a sample is too short for it, that
/// is
///   filled with its beginning, unlabelled, and it stands in the next one.
/// The last sample is left out where it is not full.
std::vector<std::vector<Fragment>> pack(const Documents& documents, const std::vector<uint32_t>& order,
                                        int64_t context_length, const SpecialTokens& special);

/// The sample that some fragments make up, cut to context_length tokens.
Sample assemble(const Documents& documents, const std::vector<Fragment>& fragments, int64_t context_length,
                const SpecialTokens& special);

}  // namespace retrosparse
