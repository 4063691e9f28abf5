#include <cmath>
#include <nlohmann/json.hpp>

#include "cli/plan_view.h"

namespace retrosparse::cli {

using nlohmann::ordered_json;

namespace {

// A count or size as a whole number, which an expectation need not be, up to where a double holds it exactly.
ordered_json number(double value) {
  constexpr double kExact = 9007199254740992.0;  // 2^53
  return std::abs(value) < kExact ? ordered_json(std::llround(value)) : ordered_json(value);
}

ordered_json parameters_json(const ParameterCounts& counts) {
  return {{"total", number(counts.total())},       {"active", number(counts.active())},
          {"embedding", number(counts.embedding)}, {"lm_head", number(counts.lm_head)},
          {"attention", number(counts.attention)}, {"mlp", number(counts.mlp)},
          {"experts", number(counts.experts)},     {"active_experts", number(counts.active_experts)},
          {"router", number(counts.router)},       {"norms", number(counts.norms)}};
}

ordered_json sparse_json(const PlanView& view) {
  const CostReport& report = view.report;
  return {{"window", view.sparse.window},
          {"sink_tokens", view.sparse.sink_tokens},
          {"index_dim", view.sparse.index_dim},
          {"max_tokens", view.sparse.max_tokens},
          {"query_heads", number(report.dense.retrieval_heads)},
          {"retrieval_heads", number(report.sparse.retrieval_heads)},
          {"full_group_share", {{"random", report.full_group_share}, {"worst", report.full_group_share_worst}}}};
}

ordered_json work_json(const Work& work) {
  return {{"flops", number(work.flops)}, {"bytes", number(work.bytes)}};
}

ordered_json length_json(const LengthCost& cost) {
  return {
      {"tokens", cost.tokens},
      {"kv_cache_bytes",
       {{"dense", number(cost.kv_dense)}, {"sparse", number(cost.kv_sparse)}, {"sparse_worst", number(cost.kv_worst)}}},
      {"index_cache_bytes", {{"sparse", number(cost.index)}, {"sparse_worst", number(cost.index_worst)}}},
      {"prefill", {{"dense", work_json(cost.prefill_dense)}, {"sparse", work_json(cost.prefill_sparse)}}},
      {"decode", {{"dense", work_json(cost.decode_dense)}, {"sparse", work_json(cost.decode_sparse)}}}};
}

ordered_json gpu_json(const PlanView& view, const GpuFit& fit) {
  ordered_json json = {{"name", fit.gpu->name},
                       {"memory_bytes", number(fit.gpu->memory_bytes)},
                       {"source", fit.gpu->source},
                       {"count", fit.count == 0 ? ordered_json() : ordered_json(fit.count)}};
  if (fit.count == 0) {
    return json;
  }
  json["weight_bytes_each"] = number(view.report.weight_bytes / static_cast<double>(fit.count));
  json["cache_tokens"] = {{"dense", number(fit.tokens_dense)}, {"sparse", number(fit.tokens_sparse)}};
  // null where the cache does not fit.
  const auto time = [&](const LengthCost& cost, double most_tokens, const Work& work) {
    return static_cast<double>(cost.tokens) <= most_tokens ? ordered_json(seconds_on(view, fit, work)) : ordered_json();
  };
  for (const LengthCost& cost : view.report.lengths) {
    json["memory_bytes_each"].push_back({{"tokens", cost.tokens},
                                         {"dense", number(memory_of_each(view, fit, cost.kv_dense))},
                                         {"sparse", number(memory_of_each(view, fit, cost.kv_sparse + cost.index))}});
    json["seconds"].push_back({{"tokens", cost.tokens},
                               {"prefill_dense", time(cost, fit.tokens_dense, cost.prefill_dense)},
                               {"prefill_sparse", time(cost, fit.tokens_sparse, cost.prefill_sparse)},
                               {"decode_dense", time(cost, fit.tokens_dense, cost.decode_dense)},
                               {"decode_sparse", time(cost, fit.tokens_sparse, cost.decode_sparse)}});
  }
  return json;
}

}  // namespace

ordered_json plan_json(const PlanView& view) {
  ordered_json json = {{"architecture", view.config.architecture},
                       {"dtype", view.dtype},
                       {"parameters", parameters_json(view.report.parameters)},
                       {"weight_bytes", number(view.report.weight_bytes)},
                       {"sparse", sparse_json(view)},
                       {"lengths", ordered_json::array()},
                       {"usable_memory", kUsableMemory},
                       {"gpus", ordered_json::array()}};
  for (const LengthCost& cost : view.report.lengths) {
    json["lengths"].push_back(length_json(cost));
  }
  for (const GpuFit& fit : view.report.gpus) {
    json["gpus"].push_back(gpu_json(view, fit));
  }
  return json;
}

}  // namespace retrosparse::cli
