#pragma once
#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>
#include <vector>

namespace retrosparse {

/// The ids of pieces of text that were met before. Of bounded size: every piece has one slot it can be in, and the
/// latest one wins. Words repeat so much that nothing more clever pays.
class PieceCache {
 public:
  static constexpr size_t kLongestPiece = 30;  ///< bytes
  static constexpr size_t kMostIds = 8;

  PieceCache() : slots_(kSlots) {}

  /// The ids of `piece`; empty if it is not here.
  std::span<const int32_t> find(std::string_view piece) const {
    if (piece.size() > kLongestPiece) {
      return {};
    }
    const Slot& slot = slots_[slot_of(piece)];
    const bool found =
        slot.piece_size == piece.size() && std::memcmp(slot.piece.data(), piece.data(), piece.size()) == 0;
    return found ? std::span(slot.ids.data(), slot.id_count) : std::span<const int32_t>();
  }

  /// Remembers the ids of `piece`, unless either is too long.
  void insert(std::string_view piece, std::span<const int64_t> ids) {
    if (piece.size() > kLongestPiece || ids.size() > kMostIds) {
      return;
    }
    Slot& slot = slots_[slot_of(piece)];
    slot.piece_size = static_cast<uint8_t>(piece.size());
    slot.id_count = static_cast<uint8_t>(ids.size());
    std::copy(piece.begin(), piece.end(), slot.piece.begin());
    std::transform(ids.begin(), ids.end(), slot.ids.begin(), [](int64_t id) { return static_cast<int32_t>(id); });
  }

 private:
  static constexpr size_t kSlots = size_t{1} << 16;

  struct alignas(64) Slot {  // one cache line
    uint8_t piece_size = 0, id_count = 0;
    std::array<char, kLongestPiece> piece;
    std::array<int32_t, kMostIds> ids;
  };
  static_assert(sizeof(Slot) == 64);

  /// A multiplicative hash, eight bytes at a time.
  static size_t slot_of(std::string_view piece) {
    uint64_t hash = piece.size();
    while (!piece.empty()) {
      uint64_t word = 0;
      const size_t size = std::min(piece.size(), sizeof word);
      std::memcpy(&word, piece.data(), size);
      hash = (hash ^ word) * 0x9E3779B97F4A7C15u;
      hash ^= hash >> 29;
      piece.remove_prefix(size);
    }
    return hash >> 32 & (kSlots - 1);
  }

  std::vector<Slot> slots_;
};

}  // namespace retrosparse
