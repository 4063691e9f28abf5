#include "base/log.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace retrosparse {
namespace {

class Log : public testing::Test {
 protected:
  Log() {
    set_log_sink([this](std::string_view line) { lines_.emplace_back(line); });
  }
  ~Log() override {
    set_log_sink({});
    set_log_level(LogLevel::kInfo);
  }
  void log_one_of_each() {
    log_error("{} is {}", "e", 1);
    log_warning("w");
    log_info("i");
    log_debug("d");
  }
  std::vector<std::string> lines_;
};

TEST_F(Log, ShowsLevelsUpToTheOneThatIsSet) {
  log_one_of_each();
  EXPECT_EQ(lines_, (std::vector<std::string>{"error: e is 1", "warning: w", "i"}));
  lines_.clear();
  set_log_level(LogLevel::kError);
  log_one_of_each();
  EXPECT_EQ(lines_, std::vector<std::string>{"error: e is 1"});
  lines_.clear();
  set_log_level(LogLevel::kDebug);
  log_one_of_each();
  EXPECT_EQ(lines_.back(), "debug: d");
}

TEST_F(Log, AWarningComesOnce) {
  for (const char* text : {"a", "b", "a"}) {
    log_warning("{}", text);
    log_info("{}", text);
  }
  EXPECT_EQ(lines_, (std::vector<std::string>{"warning: a", "a", "warning: b", "b", "a"}));
}

TEST_F(Log, WritesToStderrAndErasesAProgressLine) {
  set_log_sink({});
  testing::internal::CaptureStderr();
  log_warning("w");
  progress_line_shown = true;
  log_info("i");
  log_info("j");
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "warning: w\n\r\x1b[Ki\nj\n");
}

}  // namespace
}  // namespace retrosparse
