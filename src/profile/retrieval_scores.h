#pragma once
#include <cstdint>
#include <span>
#include <vector>

#include "model/model.h"
#include "sparse/head_plan.h"
#include "tasks/needle_pair.h"

namespace retrosparse {

/// One number for each [layer][query head].
using HeadTable = std::vector<std::vector<double>>;

/// How much each head retrieves, over several documents.
struct RetrievalScores {
  HeadTable mean;               ///< of R_h over the documents, in [0, 1]
  HeadTable spread;             ///< standard deviation over the documents (0 for one document, which says nothing)
  std::vector<HeadTable> each;  ///< R_h of every document

  /// Share of the `count` best heads by the mean that are also among the `count` best of a single document, averaged
  /// over the documents: 1 where every document gives the same heads. NaN for one document, which is not known.
  double stability(int64_t count) const;
};

/// R_h of arXiv 2605.16928: for head h the mean over the later needle's tokens of the attention mass (after the
/// softmax) that falls on the tokens of the earlier needle. One dense forward pass for each document, in chunks of
/// `chunk` tokens, shown as progress. Throws Error for a pair that overlaps or does not fit its document, and,
/// naming the layer, for attention that is not finite.
RetrievalScores measure_retrieval(const Model& model, std::span<const NeedlePair> documents, int64_t chunk);

/// How the retrieval heads are chosen from the scores.
enum class HeadPolicy {
  kQueryHead,  ///< the best query heads
  kKvGroup,    ///< whole KV groups by their best head: a group with one retrieval head keeps its full KV cache anyway
};

/// The retrieval heads, best share `ratio` of all layers' heads ranked together (at least one head; ties: lower layer,
/// then lower head). With kKvGroup the best groups until the share of heads is reached.
std::vector<std::vector<int64_t>> choose_retrieval_heads(const HeadTable& scores, double ratio, HeadPolicy policy,
                                                         int64_t num_key_value_heads);

}  // namespace retrosparse
