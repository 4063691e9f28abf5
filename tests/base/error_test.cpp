#include "base/error.h"

#include <gtest/gtest.h>

namespace retrosparse {
namespace {

TEST(Error, NamesEveryPartInReadingOrder) {
  const Error error =
      Error("wrong shape").found("[2]").expected("[3]").tensor("w").file("a.safetensors").hint("re-download it");
  EXPECT_STREQ(error.what(), "a.safetensors: tensor 'w': wrong shape: expected [3], found [2] (re-download it)");
}

TEST(Error, LeavesOutWhatIsNotKnown) {
  EXPECT_STREQ(Error("not a number").key("rope.theta").found("'x'").what(),
               "key 'rope.theta': not a number: found 'x'");
}

}  // namespace
}  // namespace retrosparse
