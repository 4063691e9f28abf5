#include "base/progress.h"

#include <gtest/gtest.h>

#include <sstream>

#include "base/log.h"

namespace retrosparse {
namespace {

class ProgressTest : public testing::Test {
 protected:
  ProgressOutput output(bool is_terminal) {
    return {&stream_, is_terminal, [this] { return now_; }, 0};
  }
  std::string taken() {
    std::string text = stream_.str();
    stream_.str("");
    return text;
  }
  std::ostringstream stream_;
  double now_ = 1000;
};

TEST_F(ProgressTest, RedrawsOneLineOnATerminal) {
  Progress progress("profiling", 64, "documents", output(true));
  progress.advance();
  EXPECT_EQ(taken(), "") << "no time has passed";
  now_ += 20;
  progress.advance(15);
  EXPECT_EQ(taken(), "\rprofiling  16/64 documents  25%  0.8 documents/s  1 m 0 s left\x1b[K");
  EXPECT_TRUE(progress_line_shown);
  now_ += 0.05;
  progress.advance();
  EXPECT_EQ(taken(), "") << "too soon to redraw";
  now_ += 59.95;
  progress.note("loss 0.5");
  progress.advance(47);
  EXPECT_EQ(taken(), "\rprofiling  64/64 documents  100%  0.8 documents/s  loss 0.5\x1b[K");
  progress.finish();
  EXPECT_EQ(taken(), "\rprofiling  64 documents in 1 m 20 s  0.8 documents/s  loss 0.5\x1b[K\n");
  EXPECT_FALSE(progress_line_shown);
  progress.finish();
  EXPECT_EQ(taken(), "");
}

TEST_F(ProgressTest, WritesFewPlainLinesToALog) {
  {
    Progress progress("reading", 0, "tokens", output(false));
    for (int i = 0; i < 25; ++i) {
      now_ += 1;
      progress.advance(1000);
    }
    EXPECT_EQ(taken(), "reading  10000 tokens  1K tokens/s\nreading  20000 tokens  1K tokens/s\n");
  }
  EXPECT_EQ(taken(), "") << "unfinished work is not called finished";
}

TEST_F(ProgressTest, EndsAnUnfinishedTerminalLine) {
  {
    Progress progress("reading", 10, "files", output(true));
    now_ += 1;
    progress.advance();
    taken();
  }
  EXPECT_EQ(taken(), "\n");
  EXPECT_FALSE(progress_line_shown);
}

TEST_F(ProgressTest, CutsLinesAtTheTerminalsEdge) {
  ProgressOutput narrow = output(true);
  narrow.columns = 12;
  Progress progress("reading", 10, "files", narrow);
  now_ += 1;
  progress.advance();
  EXPECT_EQ(taken(), "\rreading  1/\x1b[K");
}

TEST_F(ProgressTest, LeavesNoLineBehindQuickWork) {
  for (const bool is_terminal : {false, true}) {
    Progress progress("loading", 2, "tensors", output(is_terminal));
    progress.advance(2);
    now_ += 0.5;
    progress.finish();
    EXPECT_EQ(taken(), "");
    Progress slow("loading", 2, "tensors", output(is_terminal));
    slow.advance(2);
    now_ += 2;
    slow.finish();
    EXPECT_NE(taken(), "");
  }
}

TEST_F(ProgressTest, IsSilentWhenQuiet) {
  set_log_level(LogLevel::kError);
  EXPECT_EQ(ProgressOutput::standard_error().stream, nullptr);
  set_log_level(LogLevel::kInfo);
  EXPECT_NE(ProgressOutput::standard_error().stream, nullptr);
  ProgressOutput quiet = output(true);
  quiet.stream = nullptr;
  Progress progress("reading", 10, "files", quiet);
  now_ += 100;
  progress.advance();
  progress.finish();
}

}  // namespace
}  // namespace retrosparse
