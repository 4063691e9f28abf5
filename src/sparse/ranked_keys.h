#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

namespace retrosparse {

/// Positions in the order of falling score, ties: the lower position first. Sorted only as far as they are asked for,
/// since few of many are wanted. Made to be used again for row after row.
class RankedKeys {
 public:
  void clear() {
    keys_.clear();
    sorted_ = 0;
  }

  /// position < 2^32. All are added before the first is asked for.
  void add(float score, int64_t position);

  size_t size() const { return keys_.size(); }

  /// The key of a rank < size(), the highest score having rank 0.
  int64_t position(size_t rank) { return static_cast<int64_t>(~key(rank) & 0xffffffffU); }
  float score(size_t rank);

 private:
  uint64_t key(size_t rank) {
    if (rank >= sorted_) {
      sort_up_to(rank);
    }
    return keys_[rank];
  }
  void sort_up_to(size_t rank);

  std::vector<uint64_t> keys_;  // score in an order-preserving form, then the complement of the position
  size_t sorted_ = 0;           // the first so many are in their places
};

}  // namespace retrosparse
