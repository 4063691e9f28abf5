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

TEST(Error, IsOneLineOfPrintableText) {
  EXPECT_STREQ(Error("bad").tensor("a\n\x1b[2J\x7f").found("\"é€😀\xff\xc3\"").what(),
               "tensor 'a\\x0a\\x1b[2J\\x7f': bad: found \"é€😀\\xff\\xc3\"");
}

}  // namespace
}  // namespace retrosparse
