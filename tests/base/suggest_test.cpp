#include "base/suggest.h"

#include <gtest/gtest.h>

#include <random>
#include <vector>

namespace retrosparse {
namespace {

/// The definition, as slow as it is plain.
size_t distance_by_definition(std::string_view a, std::string_view b) {
  if (a.empty() || b.empty()) {
    return a.size() + b.size();
  }
  const auto rest = [](std::string_view text, size_t n) { return text.substr(0, text.size() - n); };
  size_t best = std::min({distance_by_definition(rest(a, 1), b) + 1, distance_by_definition(a, rest(b, 1)) + 1,
                          distance_by_definition(rest(a, 1), rest(b, 1)) + (a.back() != b.back())});
  if (a.size() > 1 && b.size() > 1 && a.back() == b[b.size() - 2] && a[a.size() - 2] == b.back()) {
    best = std::min(best, distance_by_definition(rest(a, 2), rest(b, 2)) + 1);
  }
  return best;
}

TEST(EditDistance, EqualsItsDefinitionOnRandomWords) {
  std::mt19937 random(1);
  const auto word = [&] {
    std::string text(random() % 7, ' ');
    for (char& letter : text) {
      letter = static_cast<char>('a' + random() % 3);
    }
    return text;
  };
  for (int i = 0; i < 300; ++i) {
    const std::string a = word(), b = word();
    EXPECT_EQ(edit_distance(a, b), distance_by_definition(a, b)) << a << " " << b;
    EXPECT_EQ(edit_distance(a, b), edit_distance(b, a)) << a << " " << b;
  }
}

TEST(Nearest, ForgivesTyposAndNotMore) {
  const std::vector<std::string> keys = {"warmup_steps", "window", "learning_rate", "p"};
  EXPECT_EQ(nearest("warmup_step", keys), "warmup_steps");
  EXPECT_EQ(nearest("wnidow", keys), "window");
  EXPECT_EQ(nearest("learnign_rate", keys), "learning_rate");
  EXPECT_EQ(nearest("q", keys), "p");
  EXPECT_EQ(nearest("gradient_clipping", keys), std::nullopt);
  EXPECT_EQ(nearest("x", std::vector<std::string>{}), std::nullopt);
  EXPECT_EQ(did_you_mean("windwo", keys), "did you mean 'window'?");
  EXPECT_EQ(did_you_mean("gradient_clipping", keys), "");
}

}  // namespace
}  // namespace retrosparse
