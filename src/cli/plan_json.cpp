#include <nlohmann/json.hpp>

#include "cli/plan_view.h"

namespace retrosparse::cli {

using nlohmann::ordered_json;

namespace {

ordered_json parameters_json(const ParameterCounts& counts) {
  return {{"total", counts.total()},       {"active", counts.active()},
          {"embedding", counts.embedding}, {"lm_head", counts.lm_head},
          {"attention", counts.attention}, {"mlp", counts.mlp},
          {"experts", counts.experts},     {"active_experts", counts.active_experts},
          {"router", counts.router},       {"norms", counts.norms}};
}

ordered_json sparse_json(const PlanView& view) {
  const CostReport& report = view.report;
  return {{"window", view.sparse.window},
          {"sink_tokens", view.sparse.sink_tokens},
          {"index_dim", view.sparse.index_dim},
          {"max_tokens", view.sparse.max_tokens},
          {"query_heads", report.dense.retrieval_heads},
          {"retrieval_heads", report.sparse.retrieval_heads},
          {"full_group_share", {{"random", report.full_group_share}, {"worst", report.full_group_share_worst}}}};
}

ordered_json work_json(const Work& work) {
  return {{"flops", work.flops}, {"bytes", work.bytes}};
}

ordered_json length_json(const LengthCost& cost) {
  return {{"tokens", cost.tokens},
          {"kv_cache_bytes", {{"dense", cost.kv_dense}, {"sparse", cost.kv_sparse}, {"sparse_worst", cost.kv_worst}}},
          {"index_cache_bytes", {{"sparse", cost.index}, {"sparse_worst", cost.index_worst}}},
          {"prefill", {{"dense", work_json(cost.prefill_dense)}, {"sparse", work_json(cost.prefill_sparse)}}},
          {"decode", {{"dense", work_json(cost.decode_dense)}, {"sparse", work_json(cost.decode_sparse)}}}};
}

ordered_json gpu_json(const PlanView& view, const GpuFit& fit) {
  ordered_json json = {{"name", fit.gpu->name},
                       {"memory_bytes", fit.gpu->memory_bytes},
                       {"source", fit.gpu->source},
                       {"count", fit.count == 0 ? ordered_json() : ordered_json(fit.count)}};
  if (fit.count == 0) {
    return json;
  }
  json["weight_bytes_each"] = view.report.weight_bytes / static_cast<double>(fit.count);
  json["cache_tokens"] = {{"dense", fit.tokens_dense}, {"sparse", fit.tokens_sparse}};
  for (const LengthCost& cost : view.report.lengths) {
    json["seconds"].push_back({{"tokens", cost.tokens},
                               {"prefill_dense", seconds_on(view, fit, cost.prefill_dense)},
                               {"prefill_sparse", seconds_on(view, fit, cost.prefill_sparse)},
                               {"decode_dense", seconds_on(view, fit, cost.decode_dense)},
                               {"decode_sparse", seconds_on(view, fit, cost.decode_sparse)}});
  }
  return json;
}

}  // namespace

ordered_json plan_json(const PlanView& view) {
  ordered_json json = {{"architecture", view.config.architecture},
                       {"dtype", view.dtype},
                       {"parameters", parameters_json(view.report.parameters)},
                       {"weight_bytes", view.report.weight_bytes},
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
