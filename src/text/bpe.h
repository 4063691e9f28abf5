#pragma once
#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

#include "text/piece_cache.h"
#include "text/vocabulary.h"

namespace retrosparse {

/// Byte-pair encoding over bytes: a piece of text starts as its bytes, and of all pairs of neighbours that have a merge
/// the one of lowest rank is merged, the leftmost of equals, until there is none (Sennrich et al., arXiv 1508.07909).
class BpeModel {
 public:
  static constexpr int32_t kNone = -1;

  struct Merge {
    int32_t left, right, merged;  ///< ids
  };

  struct Tables {
    std::array<int32_t, 256> byte_ids;  ///< kNone for a byte that has no token
    std::vector<Merge> merges;          ///< in order of rank; of equal pairs the last one counts
    int32_t unknown_id = kNone;         ///< stands in for a byte without a token; kNone: such a byte is dropped
    bool fuse_unknown = false;          ///< one unknown_id for a run of them
    /// Pieces that have a token of their own and do not go through the merges (`ignore_merges`), by their bytes.
    StringMap<int32_t> whole_pieces;
  };

  /// A part of a piece that is one token so far; symbols are a list in the order of the text.
  struct Symbol {
    int32_t id;
    int32_t previous, next;  // indices; kNone and the number of symbols at the ends
    int32_t rank;            // of the merge with the next symbol; kNone if there is none, or this symbol is no more
    int32_t merged;          // the id that this merge gives
  };

  /// Memory for one encode() at a time, with the pieces that it has met. Belongs to one model.
  struct Scratch {
    PieceCache cache;
    std::vector<Symbol> symbols;
    std::vector<uint64_t> queue;  // possible merges: rank, then place; a heap with the least one first

    size_t capacity() const { return symbols.capacity() * sizeof(Symbol) + queue.capacity() * sizeof(uint64_t); }
  };

  explicit BpeModel(Tables tables);

  /// Appends the ids of one piece, which is given as plain bytes and not in the byte-level alphabet. Takes O(n log n)
  /// time for n bytes. Error: 2 GiB or more.
  void encode(std::string_view piece, Scratch& scratch, std::vector<int64_t>& ids) const;

 private:
  static constexpr uint64_t kNoPair = ~uint64_t{0};
  struct Slot {
    uint64_t pair = kNoPair;
    int32_t rank = 0, merged = 0;
  };

  int32_t whole_piece(std::string_view piece) const;  // kNone if it is none
  void load(std::string_view piece, std::vector<Symbol>& symbols) const;
  void merge_all(Scratch& scratch) const;
  void look_up_merge(int32_t index, Scratch& scratch) const;
  const Slot* find_merge(int32_t left, int32_t right) const;  // null if there is none
  size_t slot_of(uint64_t pair) const;                        // where the pair is, or where it would go

  Tables tables_;
  std::vector<Slot> slots_;  // open addressing with linear probing; a power of two of them, at most half in use
};

}  // namespace retrosparse
