#include "base/interrupt.h"

#include <gtest/gtest.h>
#include <signal.h>

namespace retrosparse {
namespace {

TEST(Interrupt, TheFirstSignalSetsTheFlag) {
  testing::internal::CaptureStderr();
  {
    const InterruptGuard guard;
    EXPECT_FALSE(InterruptGuard::requested());
    ::raise(SIGTERM);
    EXPECT_TRUE(InterruptGuard::requested());
  }
  EXPECT_FALSE(InterruptGuard::requested());
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "\nstopping after this step; once more to stop at once\n");
}

TEST(Interrupt, CheckThrowsOnceAsked) {
  testing::internal::CaptureStderr();
  const InterruptGuard guard;
  EXPECT_NO_THROW(InterruptGuard::check());
  ::raise(SIGINT);
  EXPECT_THROW(InterruptGuard::check(), Interrupted);
  testing::internal::GetCapturedStderr();
}

TEST(Interrupt, TheOutermostGuardCounts) {
  testing::internal::CaptureStderr();
  const InterruptGuard outer;
  ::raise(SIGINT);
  {
    const InterruptGuard inner;
    EXPECT_TRUE(InterruptGuard::requested());
  }
  EXPECT_TRUE(InterruptGuard::requested());
  testing::internal::GetCapturedStderr();
}

TEST(InterruptDeathTest, TheSecondSignalEndsTheProcess) {
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  EXPECT_EXIT(
      {
        const InterruptGuard guard;
        ::raise(SIGINT);
        ::raise(SIGINT);
      },
      testing::KilledBySignal(SIGINT), "stopping after this step");
}

TEST(InterruptDeathTest, TheDestructorRestoresWhatWasBefore) {
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  EXPECT_EXIT(
      {
        { const InterruptGuard guard; }
        ::raise(SIGINT);
      },
      testing::KilledBySignal(SIGINT), "");
}

}  // namespace
}  // namespace retrosparse
