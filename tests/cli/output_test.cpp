#include "cli/output.h"

#include <gtest/gtest.h>

namespace retrosparse::cli {
namespace {

TEST(Table, AlignsTheFirstColumnLeftAndTheOthersRight) {
  Table table({"name", "n"});
  table.add({"a", "1000"});
  table.add({"longer", ""});
  EXPECT_EQ(table.text(1), " name       n\n a       1000\n longer\n");
}

}  // namespace
}  // namespace retrosparse::cli
