#include "cli/arguments.h"

#include <gtest/gtest.h>

#include "base/testing.h"
#include "cli/common.h"

namespace retrosparse::cli {
namespace {

using Ids = std::vector<int64_t>;
using Heads = std::vector<std::pair<int64_t, int64_t>>;

TEST(ParseIds, JsonAndWhiteSpaceMeanTheSame) {
  const Ids ids = {3, 0, 151935, 7};
  EXPECT_EQ(parse_ids("[3, 0,\n151935, 7]", "f"), ids);
  EXPECT_EQ(parse_ids("  [3,0,151935,7]\n", "f"), ids);
  EXPECT_EQ(parse_ids("3 0\t151935\r\n7\n", "f"), ids);
  EXPECT_EQ(parse_ids("3", "f"), Ids{3});
}

TEST(ParseIds, AnEmptyListHasNoIds) {
  for (const char* empty : {"", " \n", "[]", " [ ] "}) {
    EXPECT_EQ(parse_ids(empty, "ids.json"), Ids{}) << '"' << empty << '"';
  }
}

TEST(ParseIds, NamesWhatIsNoId) {
  for (const char* bad : {"1 2 x", "1 2 3.5", "[1, 2, 3.5]", "[1, 2, \"3\"]", "[1, 2, null]", "[1, 2, [3]]",
                          "1 2 99999999999999999999", "[1, 2, 18446744073709551615]", "1 2 3,"}) {
    const std::string message = error_of([&] { parse_ids(bad, "ids.json"); });
    EXPECT_TRUE(contains(message, "ids.json: entry 2 is not a token id")) << bad;
  }
  for (const char* broken : {"[1, 2", "[1 2]", "[1, 2] 3"}) {
    EXPECT_TRUE(contains(error_of([&] { parse_ids(broken, "ids.json"); }), "not a JSON array"));
  }
}

TEST(CheckIds, NamesTheFirstOutsideTheVocabulary) {
  check_ids({0, 9}, 10, "f");
  EXPECT_TRUE(contains(error_of([] { check_ids({0, 10}, 10, "f"); }), "f: token 1"));
  EXPECT_TRUE(contains(error_of([] { check_ids({-1}, 10, "f"); }), "expected 0 to 9, found -1"));
}

TEST(ParseLengths, UnderstandsUnits) {
  EXPECT_EQ(parse_lengths("4k,100,1m,32K"), (Ids{4096, 100, 1048576, 32768}));
}

TEST(ParseLengths, RefusesTheRest) {
  for (const char* bad : {"", "4k,", "k", "-1", "0", "0k", "1.5k", "4 k", "4kk", "1e3", "9999999999999m"}) {
    EXPECT_THROW(parse_lengths(bad), UsageError) << bad;
  }
}

TEST(ParseHeads, UnderstandsLayerAndHead) {
  EXPECT_EQ(parse_heads("5.0,5.2", 6, 4), (Heads{{5, 0}, {5, 2}}));
}

TEST(ParseHeads, RefusesTheRest) {
  for (const char* bad : {"", "5", "5.", ".5", "5.0.1", "a.b", "5.0,", "5,0", "-1.0"}) {
    EXPECT_THROW(parse_heads(bad, 6, 4), UsageError) << bad;
  }
  for (const char* absent : {"6.0", "0.4", "0.0,0.9"}) {
    EXPECT_THROW(parse_heads(absent, 6, 4), UsageError) << absent;
  }
}

}  // namespace
}  // namespace retrosparse::cli
