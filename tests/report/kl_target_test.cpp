#include "report/kl_target.h"

#include <gtest/gtest.h>

#include "base/testing.h"
#include "sample_report.h"

namespace retrosparse {
namespace {

Report report_with(double target, double calibrated, double validated) {
  Report report = sample_report();
  report.selection->kl_target = target;
  report.selection->target_met = calibrated <= target;
  report.selection->chosen->kl = calibrated;
  report.validation->variants.sparse->kl_plan = validated;
  report.prefill->mode = "dense";
  return report;
}

std::string said(double target, double calibrated, double validated) {
  return text_of(*kl_target_outcome(report_with(target, calibrated, validated)));
}

TEST(KlTarget, IsMetByValidationAndNotByCalibration) {
  EXPECT_EQ(said(3e-3, 2.9e-3, 2.95e-3), "KL target x1000 3.00: met (2.95)");
  EXPECT_EQ(said(3e-3, 2.9e-3, 3.1e-3), "KL target x1000 3.00: missed (3.10)");
  EXPECT_EQ(said(3e-3, 4e-3, 2.5e-3), "KL target x1000 3.00: met (2.50)");
}

TEST(KlTarget, SaysWhereCalibrationWasFarOff) {
  EXPECT_TRUE(contains(said(3e-3, 2.9e-3, 168.42e-3), "missed (168.42); calibration had found 2.90"));
  EXPECT_TRUE(contains(said(3e-3, 2.9e-3, 1.4e-3), "met (1.40); calibration had found 2.90"));
  EXPECT_FALSE(contains(said(3e-3, 2.9e-3, 5.7e-3), "calibration"));
}

TEST(KlTarget, OfPromptsThatAreReadByTilesIsTheSumOfBoth) {
  Report report = report_with(3e-3, 2e-3, 14e-3);
  report.prefill->mode = "tiles";
  report.prefill->kl_target = 12e-3;
  report.prefill->chosen = {.kl = 11e-3};
  EXPECT_EQ(text_of(*kl_target_outcome(report)), "KL target of selection and tiles x1000 15.00: met (14.00)");
  EXPECT_EQ(kl_target_outcome(report)->calibrated, 2e-3 + 11e-3);
  report.prefill->kl_target.reset();
  EXPECT_FALSE(kl_target_outcome(report).has_value());
}

TEST(KlTarget, IsNothingWithoutATargetOrAMeasurement) {
  EXPECT_FALSE(kl_target_outcome(report_with(0, 1, 1)).has_value());
  EXPECT_FALSE(kl_target_outcome(training_free_sample()).has_value());
  EXPECT_FALSE(kl_target_outcome(bare_sample()).has_value());
  Report not_chosen = sample_report();
  not_chosen.selection->chosen.reset();
  EXPECT_FALSE(kl_target_outcome(not_chosen).has_value());
}

}  // namespace
}  // namespace retrosparse
