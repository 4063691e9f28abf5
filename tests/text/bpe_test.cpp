#include "text/bpe.h"

#include <gtest/gtest.h>

#include <map>
#include <random>

namespace retrosparse {
namespace {

BpeModel::Tables byte_tables() {
  BpeModel::Tables tables;
  for (int byte = 0; byte < 256; ++byte) {
    tables.byte_ids[static_cast<size_t>(byte)] = byte;
  }
  return tables;
}

std::vector<int64_t> encode(const BpeModel& model, std::string_view piece) {
  BpeModel::Scratch scratch;
  std::vector<int64_t> ids;
  model.encode(piece, scratch, ids);
  return ids;
}

/// The definition, word by word: merge the leftmost pair of lowest rank until there is none.
std::vector<int64_t> encode_by_definition(const std::vector<BpeModel::Merge>& merges, std::string_view piece) {
  std::map<std::pair<int64_t, int64_t>, size_t> rank_of;
  for (size_t rank = 0; rank < merges.size(); ++rank) {
    rank_of[{merges[rank].left, merges[rank].right}] = rank;
  }
  std::vector<int64_t> ids;
  for (const char byte : piece) {
    ids.push_back(static_cast<unsigned char>(byte));
  }
  while (true) {
    size_t best_rank = merges.size(), best = 0;
    for (size_t i = 0; i + 1 < ids.size(); ++i) {
      const auto entry = rank_of.find({ids[i], ids[i + 1]});
      if (entry != rank_of.end() && entry->second < best_rank) {
        best_rank = entry->second;
        best = i;
      }
    }
    if (best_rank == merges.size()) {
      return ids;
    }
    ids[best] = merges[best_rank].merged;
    ids.erase(ids.begin() + static_cast<std::ptrdiff_t>(best) + 1);
  }
}

TEST(Bpe, AgreesWithTheDefinition) {
  std::mt19937 random(1);
  for (int round = 0; round < 200; ++round) {
    // Merges of random tokens over three letters, so that ranks and overlaps come in every order; some twice.
    BpeModel::Tables tables = byte_tables();
    std::vector<int32_t> tokens = {'a', 'b', 'c'};
    for (int32_t id = 256; id < 256 + 30; ++id) {
      tables.merges.push_back({tokens[random() % tokens.size()], tokens[random() % tokens.size()], id});
      tokens.push_back(id);
    }
    std::shuffle(tables.merges.begin(), tables.merges.end(), random);
    const std::vector<BpeModel::Merge> merges = tables.merges;
    const BpeModel model(std::move(tables));
    BpeModel::Scratch scratch;
    for (int i = 0; i < 50; ++i) {
      std::string piece;
      for (size_t size = 1 + random() % 60; piece.size() < size;) {
        piece += "abcd"[random() % 4];
      }
      for (int again = 0; again < 2; ++again) {  // the second time from the cache, if it fits
        std::vector<int64_t> ids = {-7};
        model.encode(piece, scratch, ids);
        std::vector<int64_t> expected = encode_by_definition(merges, piece);
        expected.insert(expected.begin(), -7);
        ASSERT_EQ(ids, expected) << piece;
      }
    }
  }
}

TEST(Bpe, PiecesOfAMegabyte) {
  BpeModel::Tables tables = byte_tables();
  int32_t token = 'a';
  for (int32_t id = 256; id < 266; ++id) {  // aa, aaaa, ... up to 1,024 letters
    tables.merges.push_back({token, token, id});
    token = id;
  }
  const BpeModel model(std::move(tables));
  const std::vector<int64_t> ids = encode(model, std::string(size_t{1} << 20, 'a'));
  EXPECT_EQ(ids, std::vector<int64_t>(1024, 265));
}

TEST(Bpe, OfEqualMergesTheLastCounts) {
  BpeModel::Tables tables = byte_tables();
  tables.merges = {{'a', 'b', 256}, {'b', 'c', 257}, {'a', 'b', 256}};
  EXPECT_EQ(encode(BpeModel(std::move(tables)), "abc"), (std::vector<int64_t>{'a', 257}));
}

TEST(Bpe, WholePiecesSkipTheMerges) {
  BpeModel::Tables tables = byte_tables();
  tables.merges = {{'b', 'c', 257}};
  tables.whole_pieces = {{"abc", 258}};
  const BpeModel model(std::move(tables));
  EXPECT_EQ(encode(model, "abc"), (std::vector<int64_t>{258}));
  EXPECT_EQ(encode(model, "abcd"), (std::vector<int64_t>{'a', 257, 'd'}));
}

TEST(Bpe, BytesWithoutATokenAreDroppedOrReplaced) {
  const auto encode_without_x = [](int32_t unknown, bool fuse) {
    BpeModel::Tables tables = byte_tables();
    tables.byte_ids['x'] = BpeModel::kNone;
    tables.unknown_id = unknown;
    tables.fuse_unknown = fuse;
    tables.merges = {{'a', 'b', 256}};
    return encode(BpeModel(std::move(tables)), "axbxxax");
  };
  EXPECT_EQ(encode_without_x(BpeModel::kNone, false), (std::vector<int64_t>{256, 'a'}));
  EXPECT_EQ(encode_without_x(300, false), (std::vector<int64_t>{'a', 300, 'b', 300, 300, 'a', 300}));
  EXPECT_EQ(encode_without_x(300, true), (std::vector<int64_t>{'a', 300, 'b', 300, 'a', 300}));
}

TEST(PieceCache, ForgetsButNeverConfuses) {
  PieceCache cache;
  const auto ids_of = [](int64_t number) { return std::vector<int64_t>{number, number + 1}; };
  constexpr int64_t kPieces = 300'000;  // more than it has room for
  for (int64_t number = 0; number < kPieces; ++number) {
    cache.insert(std::to_string(number), ids_of(number));
  }
  int64_t found = 0;
  for (int64_t number = 0; number < kPieces; ++number) {
    const std::span<const int32_t> ids = cache.find(std::to_string(number));
    if (!ids.empty()) {
      ++found;
      ASSERT_EQ(std::vector<int64_t>(ids.begin(), ids.end()), ids_of(number));
    }
  }
  EXPECT_GT(found, 10'000);
  EXPECT_LT(found, kPieces);
  cache.insert(std::string(31, 'a'), ids_of(1));  // too long
  EXPECT_TRUE(cache.find(std::string(31, 'a')).empty());
  cache.insert("nine ids", std::vector<int64_t>(9));
  EXPECT_TRUE(cache.find("nine ids").empty());
}

}  // namespace
}  // namespace retrosparse
