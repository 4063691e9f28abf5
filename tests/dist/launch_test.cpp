#include "dist/launch.h"

#include <gtest/gtest.h>

#include <map>

#include "base/error.h"

namespace retrosparse::dist {
namespace {

using Variables = std::map<std::string, std::string>;

std::optional<Launch> read(const Variables& variables) {
  return read_launch([&](const char* name) -> std::optional<std::string> {
    const auto found = variables.find(name);
    return found == variables.end() ? std::nullopt : std::optional<std::string>(found->second);
  });
}

const Variables kSecondOfThree = {
    {"RANK", "1"}, {"WORLD_SIZE", "3"}, {"LOCAL_RANK", "1"}, {"MASTER_ADDR", "node-0"}, {"MASTER_PORT", "29500"}};

Variables with(const std::string& name, const std::string& value) {
  Variables variables = kSecondOfThree;
  variables[name] = value;
  return variables;
}

void expect_error(const Variables& variables, const std::string& text) {
  try {
    read(variables);
    FAIL() << "accepted; should have said: " << text;
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find(text), std::string::npos) << error.what();
  }
}

TEST(Launch, NoVariableMeansAProcessOnItsOwn) {
  EXPECT_FALSE(read({}).has_value());
  EXPECT_FALSE(read({{"TORCHELASTIC_RESTART_COUNT", "1"}}).has_value());
}

TEST(Launch, ReadsWhatTorchrunSets) {
  Variables variables = kSecondOfThree;
  variables["TORCHELASTIC_USE_AGENT_STORE"] = "True";
  variables["TORCHELASTIC_RESTART_COUNT"] = "2";
  const Launch launch = read(variables).value();
  EXPECT_EQ(launch.rank, 1);
  EXPECT_EQ(launch.world_size, 3);
  EXPECT_EQ(launch.local_rank, 1);
  EXPECT_EQ(launch.master_address, "node-0");
  EXPECT_EQ(launch.master_port, 29500);
  EXPECT_TRUE(launch.agent_serves_store);
  EXPECT_EQ(launch.restart_count, 2);
}

TEST(Launch, RankZeroServesTheStoreUnlessTorchrunDoes) {
  EXPECT_FALSE(read(kSecondOfThree)->agent_serves_store);
  EXPECT_FALSE(read(with("TORCHELASTIC_USE_AGENT_STORE", "False"))->agent_serves_store);
}

TEST(Launch, NamesEveryMissingVariable) {
  for (const auto& [name, value] : kSecondOfThree) {
    Variables variables = kSecondOfThree;
    variables.erase(name);
    expect_error(variables, "environment variable " + name + " is not set, but ");
  }
  expect_error({{"RANK", "0"}, {"WORLD_SIZE", "1"}}, "LOCAL_RANK, MASTER_ADDR, MASTER_PORT is not set, but RANK is");
}

TEST(Launch, RefusesImpossibleValues) {
  expect_error(with("RANK", "3"), "RANK is wrong: expected a whole number from 0 to 2, found '3'");
  expect_error(with("RANK", "-1"), "found '-1'");
  expect_error(with("RANK", "1x"), "found '1x'");
  expect_error(with("RANK", ""), "found ''");
  expect_error(with("WORLD_SIZE", "0"), "WORLD_SIZE is wrong: expected a whole number from 1, found '0'");
  expect_error(with("WORLD_SIZE", "99999999999"), "found '99999999999'");
  expect_error(with("LOCAL_RANK", "3"), "LOCAL_RANK is wrong");
  expect_error(with("MASTER_PORT", "0"), "MASTER_PORT is wrong: expected a whole number from 1 to 65535");
  expect_error(with("MASTER_PORT", "65536"), "found '65536'");
  expect_error(with("MASTER_ADDR", ""), "MASTER_ADDR is empty");
  expect_error(with("TORCHELASTIC_RESTART_COUNT", "many"), "found 'many'");
}

}  // namespace
}  // namespace retrosparse::dist
