#include "tasks/needle_pair.h"

#include <set>

#include "base/testing.h"
#include "tasks/tasks_testing.h"

namespace retrosparse {
namespace {

constexpr int64_t kLongest = 1 << 20;

std::vector<int64_t> slice(const std::vector<int64_t>& ids, int64_t begin, int64_t end) {
  return {ids.begin() + begin, ids.begin() + end};
}

TEST(NeedlePairs, TheSameNeedleStandsNearTheStartAndAtTheEnd) {
  const TaskContext context = make_context();
  const NeedlePairs pairs(context, 11, kLongest);
  for (const int64_t length : {300, 5000}) {
    for (int64_t document = 0; document < 5; ++document) {
      const NeedlePair pair = pairs.pair(length, document, document % 3);
      EXPECT_EQ(std::ssize(pair.ids), length);
      EXPECT_EQ(pair.first.begin, 64) << "behind the first tokens, to which heads attend whatever they say";
      EXPECT_EQ(pair.second.end, length);
      EXPECT_EQ(pair.first.size(), pair.second.size());
      EXPECT_EQ(slice(pair.ids, pair.first.begin, pair.first.end), slice(pair.ids, pair.second.begin, pair.second.end));
      const std::string needle = decode(context, pair.ids, pair.first);
      EXPECT_TRUE(needle.starts_with("\n") && needle.ends_with(".\n")) << needle;
      EXPECT_TRUE(contains(needle, "special magic number"));
      EXPECT_FALSE(contains(decode(context, pair.ids, {pair.first.end, pair.second.begin}), "magic"));
    }
  }
}

TEST(NeedlePairs, DocumentsAndNeedlesVaryOnTheirOwn) {
  const TaskContext context = make_context();
  const NeedlePairs pairs(context, 11, kLongest);
  std::set<std::string> needles;
  std::set<std::vector<int64_t>> texts;
  for (int64_t document = 0; document < 4; ++document) {
    for (int64_t needle = 0; needle < 3; ++needle) {
      const NeedlePair pair = pairs.pair(2000, document, needle);
      needles.insert(decode(context, pair.ids, pair.first));
      texts.insert(slice(pair.ids, 0, 64));
      EXPECT_EQ(pairs.pair(2000, document, needle).ids, pair.ids);
      EXPECT_NE(NeedlePairs(context, 12, kLongest).pair(2000, document, needle).ids, pair.ids);
    }
  }
  EXPECT_EQ(needles.size(), 12u);
  EXPECT_EQ(texts.size(), 4u) << "the same text for all needles of a document";
}

TEST(NeedlePairs, BeginAsTextsBegin) {
  TaskContext context = make_context();
  SpecialTokens special = context.text->special();
  special.begin_of_text = {3};
  context.text = std::make_shared<const TextPool>(context.text->documents(), special);
  const NeedlePair pair = NeedlePairs(context, 11, kLongest).pair(500, 0, 0);
  EXPECT_EQ(pair.ids[0], 3);
  EXPECT_EQ(pair.first.begin, 65);
  EXPECT_EQ(std::ssize(pair.ids), 500);
}

TEST(NeedlePairs, RefusesWhatDoesNotFit) {
  const TaskContext context = make_context(2000);
  const NeedlePairs pairs(context, 11, 50'000);
  EXPECT_TRUE(
      contains(error_of([&] { pairs.pair(80, 0, 0); }), "two needles do not fit into the length to profile at"));
  EXPECT_TRUE(
      contains(error_of([&] { pairs.pair(50'001, 0, 0); }), "beyond the model's context: expected at most 50000"));
  EXPECT_TRUE(contains(error_of([&] { pairs.pair(40'000, 0, 0); }), "too little running text"));
}

}  // namespace
}  // namespace retrosparse
