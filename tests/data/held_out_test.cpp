#include "data/held_out.h"

#include <algorithm>

#include "base/hash.h"
#include "base/testing.h"

namespace retrosparse {
namespace {

std::vector<std::string> digests(int count, int first = 0) {
  std::vector<std::string> result;
  for (int i = first; i < first + count; ++i) {
    result.push_back(hash_text("document " + std::to_string(i)));
  }
  return result;
}

TEST(HeldOut, AShareOfTheDocuments) {
  const std::vector<bool> chosen = choose_held_out(digests(10'000), {.share = 0.1});
  EXPECT_NEAR(static_cast<double>(std::ranges::count(chosen, true)), 1000, 120) << "four standard deviations";
}

TEST(HeldOut, AShareDoesNotMoveWhenDocumentsAreAdded) {
  const std::vector<bool> before = choose_held_out(digests(1000), {.share = 0.1});
  std::vector<bool> after = choose_held_out(digests(5000), {.share = 0.1});
  after.resize(before.size());
  EXPECT_EQ(after, before);
}

TEST(HeldOut, ANumberOfDocuments) {
  for (const int64_t count : {1, 3, 49}) {
    const std::vector<bool> chosen = choose_held_out(digests(50), {.count = count});
    EXPECT_EQ(std::ranges::count(chosen, true), count);
  }
}

TEST(HeldOut, ANumberNeverTakesFromTrainingWhenDocumentsAreAdded) {
  const std::vector<bool> before = choose_held_out(digests(50), {.count = 5});
  const std::vector<bool> after = choose_held_out(digests(500), {.count = 5});
  for (size_t i = 0; i < before.size(); ++i) {
    EXPECT_LE(after[i], before[i]) << i;
  }
}

TEST(HeldOut, CopiesStayTogether) {
  std::vector<std::string> copied = digests(20);
  const std::vector<std::string> again = digests(20);
  copied.insert(copied.end(), again.begin(), again.end());
  for (const HeldOutRule& rule : {HeldOutRule{.share = 0.3}, HeldOutRule{.count = 4}}) {
    const std::vector<bool> chosen = choose_held_out(copied, rule);
    EXPECT_TRUE(std::equal(chosen.begin(), chosen.begin() + 20, chosen.begin() + 20));
  }
}

TEST(HeldOut, NoRuleHoldsNothingOut) {
  EXPECT_EQ(choose_held_out(digests(3), {}), std::vector<bool>(3));
}

TEST(HeldOut, RefusesWhatCannotBe) {
  EXPECT_TRUE(contains(error_of([] { choose_held_out(digests(3), {.share = 1}); }), "0 <= share < 1, found 1"));
  EXPECT_TRUE(contains(error_of([] { choose_held_out(digests(3), {.share = -0.5}); }), "found -0.5"));
  EXPECT_TRUE(contains(error_of([] { choose_held_out(digests(3), {.count = -1}); }), "found -1"));
  EXPECT_TRUE(contains(error_of([] { choose_held_out(digests(3), {.share = 0.5, .count = 1}); }), "one of the two"));
  EXPECT_TRUE(contains(error_of([] { choose_held_out(digests(3), {.count = 3}); }), "none is left for training"));
  EXPECT_TRUE(contains(error_of([] { choose_held_out(digests(3), {.share = 1e-9}); }), "no document is held out"));
  EXPECT_TRUE(contains(error_of([] { choose_held_out(digests(1), {.share = 0.999999}); }), "none is left"));
}

}  // namespace
}  // namespace retrosparse
