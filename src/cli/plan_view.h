#pragma once
#include <nlohmann/json_fwd.hpp>
#include <string>

#include "model/config.h"
#include "plan/report.h"

namespace retrosparse::cli {

/// What `plan` shows: the report and what it is about.
struct PlanView {
  const std::string& model;  ///< as it was named
  const ModelConfig& config;
  const SparseOptions& sparse;
  const std::string& dtype;
  const CostReport& report;
};

/// The least time that this many of these GPUs need, in the view's dtype. fit.count > 0.
double seconds_on(const PlanView& view, const GpuFit& fit, const Work& work);

/// Bytes that each of these GPUs holds: its part of the weights and of `cache_bytes`. fit.count > 0.
double memory_of_each(const PlanView& view, const GpuFit& fit, double cache_bytes);

/// "3.2 TFLOP", "42 s", "1.5 ms".
std::string flops_text(double flops);
std::string seconds_text(double seconds);

/// Tables for a terminal. Memory and times for every length where the report has one GPU, else for the longest that
/// fits on each.
std::string plan_text(const PlanView& view);

/// All figures, in bytes, FLOPs and seconds.
nlohmann::ordered_json plan_json(const PlanView& view);

}  // namespace retrosparse::cli
