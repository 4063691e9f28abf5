#pragma once
#include <cstdint>
#include <string>
#include <vector>

namespace retrosparse {

/// Which documents are kept apart from training, to calibrate and to validate on. A document's content decides, by its
/// hash, so a document is on the same side wherever it lies and whatever lies beside it; copies of a document are
/// always on the same side.
struct HeldOutRule {
  /// About this share of the documents, each for itself: adding files moves none of those that were there. 0: none.
  double share = 0;
  /// Or this many documents, those with the lowest hashes, for collections of a few long ones: an added file can take
  /// the place of a held-out one, which then becomes training text; the reverse never happens. 0: none.
  int64_t count = 0;

  /// Error: share outside [0, 1), count negative, or both given.
  void check() const;
};

/// Whether each document is held out, from the digest of its content (32 hexadecimal digits, see base/hash.h). Error:
/// the rule is given but nothing is held out, or nothing is left.
std::vector<bool> choose_held_out(const std::vector<std::string>& digests, const HeldOutRule& rule);

}  // namespace retrosparse
