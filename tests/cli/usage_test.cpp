#include "cli/usage.h"

#include <gtest/gtest.h>

#include <CLI/CLI.hpp>

#include "base/testing.h"

namespace retrosparse::cli {
namespace {

// What the user of a small program is told about a wrong command line.
std::string message_for(std::vector<std::string> arguments) {
  CLI::App app("test", "retrosparse");
  app.require_subcommand(1);
  CLI::App* inspect = app.add_subcommand("inspect", "");
  std::string model, dtype;
  inspect->add_option("--model", model)->required();
  inspect->add_option("--dtype", dtype)->check(CLI::IsMember({"float32", "bfloat16"}));
  app.add_subcommand("generate", "");
  std::reverse(arguments.begin(), arguments.end());  // as App::parse wants them
  try {
    app.parse(arguments);
  } catch (const CLI::ParseError& error) {
    return usage_message(app, error);
  }
  ADD_FAILURE() << "was understood";
  return "";
}

TEST(UsageMessage, SuggestsTheNearestSubcommandAndOption) {
  EXPECT_EQ(message_for({"inspct"}), "unknown subcommand 'inspct'; did you mean 'inspect'? (see retrosparse --help)");
  EXPECT_EQ(message_for({"inspect", "--modle", "x"}),
            "unknown option --modle; did you mean '--model'? (see retrosparse inspect --help)");
  EXPECT_EQ(message_for({"inspect", "--model=a", "--dtypes=float32"}),
            "unknown option --dtypes; did you mean '--dtype'? (see retrosparse inspect --help)");
}

TEST(UsageMessage, SuggestsNothingFarAway) {
  EXPECT_EQ(message_for({"conjure"}), "unknown subcommand 'conjure' (see retrosparse --help)");
  EXPECT_EQ(message_for({"inspect", "--frobnicate"}), "unknown option --frobnicate (see retrosparse inspect --help)");
}

TEST(UsageMessage, NamesWhatIsMissingOrTooMuch) {
  EXPECT_TRUE(contains(message_for({}), "subcommand"));
  EXPECT_TRUE(contains(message_for({"inspect"}), "--model"));
  EXPECT_TRUE(contains(message_for({"inspect", "--model"}), "--model"));
  EXPECT_TRUE(contains(message_for({"inspect", "--model", "x", "--dtype", "int8"}), "int8"));
  EXPECT_TRUE(contains(message_for({"inspect", "--model", "x", "extra"}), "unexpected argument 'extra'"));
}

}  // namespace
}  // namespace retrosparse::cli
