#include "text/bpe.h"

#include <algorithm>
#include <bit>
#include <functional>
#include <limits>
#include <span>
#include <utility>

#include "base/error.h"

namespace retrosparse {

namespace {

uint64_t pair_of(int32_t left, int32_t right) {
  return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
}

}  // namespace

BpeModel::BpeModel(Tables tables) : tables_(std::move(tables)), slots_(std::bit_ceil(2 * tables_.merges.size() + 1)) {
  for (size_t rank = 0; rank < tables_.merges.size(); ++rank) {
    const Merge& merge = tables_.merges[rank];
    const uint64_t pair = pair_of(merge.left, merge.right);
    slots_[slot_of(pair)] = {pair, static_cast<int32_t>(rank), merge.merged};
  }
  tables_.merges = {};
}

size_t BpeModel::slot_of(uint64_t pair) const {
  size_t slot = (pair * 0x9E3779B97F4A7C15u >> 32) & (slots_.size() - 1);
  while (slots_[slot].pair != pair && slots_[slot].pair != kNoPair) {
    slot = (slot + 1) & (slots_.size() - 1);
  }
  return slot;
}

const BpeModel::Slot* BpeModel::find_merge(int32_t left, int32_t right) const {
  const Slot& slot = slots_[slot_of(pair_of(left, right))];
  return slot.pair == kNoPair ? nullptr : &slot;
}

void BpeModel::encode(std::string_view piece, Scratch& scratch, std::vector<int64_t>& ids) const {
  const std::span<const int32_t> known = scratch.cache.find(piece);
  if (!known.empty()) {
    ids.insert(ids.end(), known.begin(), known.end());
    return;
  }
  const auto begin = static_cast<std::ptrdiff_t>(ids.size());
  if (const int32_t whole = whole_piece(piece); whole != kNone) {
    ids.push_back(whole);
  } else {
    load(piece, scratch.symbols);
    merge_all(scratch);
    const auto count = static_cast<int32_t>(scratch.symbols.size());
    for (int32_t index = 0; index < count; index = scratch.symbols[static_cast<size_t>(index)].next) {
      ids.push_back(scratch.symbols[static_cast<size_t>(index)].id);
    }
  }
  scratch.cache.insert(piece, std::span(ids.begin() + begin, ids.end()));
}

int32_t BpeModel::whole_piece(std::string_view piece) const {
  if (tables_.whole_pieces.empty()) {
    return kNone;
  }
  const auto entry = tables_.whole_pieces.find(piece);
  return entry == tables_.whole_pieces.end() ? kNone : entry->second;
}

void BpeModel::load(std::string_view piece, std::vector<Symbol>& symbols) const {
  if (piece.size() >= static_cast<size_t>(std::numeric_limits<int32_t>::max())) {
    throw Error("a text without a place to split it is too long").expected("less than 2 GiB");
  }
  symbols.clear();
  bool was_unknown = false;
  for (const char byte : piece) {
    const int32_t known = tables_.byte_ids[static_cast<unsigned char>(byte)];
    const int32_t id = known == kNone ? tables_.unknown_id : known;
    if (id != kNone && !(known == kNone && was_unknown && tables_.fuse_unknown)) {
      const auto index = static_cast<int32_t>(symbols.size());
      symbols.push_back({id, index - 1, index + 1, kNone, kNone});
    }
    was_unknown = known == kNone;
  }
}

void BpeModel::merge_all(Scratch& scratch) const {
  std::vector<Symbol>& symbols = scratch.symbols;
  std::vector<uint64_t>& queue = scratch.queue;
  const auto count = static_cast<int32_t>(symbols.size());
  queue.clear();
  for (int32_t index = 0; index < count; ++index) {
    look_up_merge(index, scratch);
  }
  while (!queue.empty()) {
    std::pop_heap(queue.begin(), queue.end(), std::greater<>());
    const auto rank = static_cast<int32_t>(queue.back() >> 32);
    const auto index = static_cast<int32_t>(queue.back());
    queue.pop_back();
    Symbol& left = symbols[static_cast<size_t>(index)];
    if (left.rank != rank) {  // one of the two has merged with something else meanwhile
      continue;
    }
    Symbol& right = symbols[static_cast<size_t>(left.next)];
    right.rank = kNone;
    left.id = left.merged;
    left.next = right.next;
    if (left.next < count) {
      symbols[static_cast<size_t>(left.next)].previous = index;
    }
    look_up_merge(index, scratch);
    if (left.previous != kNone) {
      look_up_merge(left.previous, scratch);
    }
  }
}

void BpeModel::look_up_merge(int32_t index, Scratch& scratch) const {
  Symbol& symbol = scratch.symbols[static_cast<size_t>(index)];
  symbol.rank = kNone;
  if (symbol.next == static_cast<int32_t>(scratch.symbols.size())) {
    return;
  }
  const Slot* merge = find_merge(symbol.id, scratch.symbols[static_cast<size_t>(symbol.next)].id);
  if (merge != nullptr) {
    symbol.rank = merge->rank;
    symbol.merged = merge->merged;
    scratch.queue.push_back(static_cast<uint64_t>(merge->rank) << 32 | static_cast<uint32_t>(index));
    std::push_heap(scratch.queue.begin(), scratch.queue.end(), std::greater<>());
  }
}

}  // namespace retrosparse
