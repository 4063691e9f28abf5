#include "cli/plan_view.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <iterator>

#include "base/format.h"
#include "cli/output.h"

namespace retrosparse::cli {
namespace {

std::string tokens_text(double tokens) {
  if (tokens >= 1024 * 1024 && std::fmod(tokens, 1024 * 1024) == 0) {
    return fmt::format("{}m", tokens / (1024 * 1024));
  }
  return tokens >= 1024 && std::fmod(tokens, 1024) == 0 ? fmt::format("{}k", tokens / 1024)
                                                        : fmt::format("{:.0f}", tokens);
}

std::string percent(double share) {
  return fmt::format("{:.3g}%", 100 * share);
}

std::string parameters_text(const PlanView& view) {
  const ParameterCounts& counts = view.report.parameters;
  Table table({"parameters", "count", view.dtype});
  const auto add = [&](const std::string& name, double count) {
    if (count > 0) {
      table.add({name, format_count(count), format_bytes(count * view.report.element_size)});
    }
  };
  add("embedding", counts.embedding);
  add("output head", counts.lm_head);
  add("attention", counts.attention);
  add("feed-forward", counts.mlp);
  add("experts", counts.experts);
  add("router", counts.router);
  add("norms", counts.norms);
  add("total", counts.total());
  if (counts.experts > 0) {
    add("active for a token", counts.active());
  }
  return table.text();
}

std::string assumptions_text(const PlanView& view) {
  const CostReport& report = view.report;
  return fmt::format(
      "\n  Sparse: {:.0f} of {:.0f} query heads are retrieval heads; the others see a window of {} tokens and {} "
      "sinks.\n"
      "  A key/value head keeps its whole cache as soon as one of its {} query heads is a retrieval head: {} of them "
      "if\n"
      "  the retrieval heads lie at random (\"sparse\"), {} in the worst case. At decode a retrieval head picks at "
      "most {}\n"
      "  far tokens by an index of {} numbers a token; in prefill it sees everything. One sequence, cache in {}.\n",
      report.sparse.retrieval_heads, report.dense.retrieval_heads, view.sparse.window, view.sparse.sink_tokens,
      view.config.group_size(), percent(report.full_group_share), percent(report.full_group_share_worst),
      view.sparse.max_tokens, view.sparse.index_dim, view.dtype);
}

std::string caches_text(const PlanView& view) {
  Table table({"KV cache", "dense", "sparse", "+ index", "of dense", "worst case", "+ index"});
  for (const LengthCost& cost : view.report.lengths) {
    table.add({tokens_text(static_cast<double>(cost.tokens)), format_bytes(cost.kv_dense), format_bytes(cost.kv_sparse),
               format_bytes(cost.index), percent((cost.kv_sparse + cost.index) / cost.kv_dense),
               format_bytes(cost.kv_worst), format_bytes(cost.index_worst)});
  }
  return table.text();
}

std::string work_text(const PlanView& view) {
  Table prefill({"prefill", "dense", "sparse", "of dense", "least bytes moved"});
  Table decode({"decode, one token at", "dense", "sparse", "bytes moved, dense", "sparse", "of dense"});
  for (const LengthCost& cost : view.report.lengths) {
    const std::string tokens = tokens_text(static_cast<double>(cost.tokens));
    prefill.add({tokens, flops_text(cost.prefill_dense.flops), flops_text(cost.prefill_sparse.flops),
                 percent(cost.prefill_sparse.flops / cost.prefill_dense.flops),
                 format_bytes(cost.prefill_dense.bytes)});
    decode.add({tokens, flops_text(cost.decode_dense.flops), flops_text(cost.decode_sparse.flops),
                format_bytes(cost.decode_dense.bytes), format_bytes(cost.decode_sparse.bytes),
                percent(cost.decode_sparse.bytes / cost.decode_dense.bytes)});
  }
  return prefill.text() + "\n" + decode.text();
}

std::string fit_text(const PlanView& view) {
  Table table({"GPU", "memory", "GPUs for the weights", "of each, weights", "tokens of cache, dense", "sparse"});
  for (const GpuFit& fit : view.report.gpus) {
    const std::string memory = fmt::format("{:.0f} GB", fit.gpu->memory_bytes / 1e9);
    if (fit.count == 0) {
      table.add({fit.gpu->name, memory, "more than 1024", "", "", ""});
      continue;
    }
    table.add({fit.gpu->name, memory, std::to_string(fit.count),
               format_bytes(view.report.weight_bytes / static_cast<double>(fit.count)), format_count(fit.tokens_dense),
               format_count(fit.tokens_sparse)});
  }
  return table.text() +
         fmt::format("  {:.0f}% of the memory is used; weights and cache are split evenly.\n", 100 * kUsableMemory);
}

// The two prefill times, then the two decode times; those of a cache that does not fit beside the weights are left out.
std::vector<std::string> times(const PlanView& view, const GpuFit& fit, const LengthCost& cost) {
  const auto tokens = static_cast<double>(cost.tokens);
  const auto time = [&](double most_tokens, const Work& work) {
    return tokens <= most_tokens ? seconds_text(seconds_on(view, fit, work)) : std::string("does not fit");
  };
  return {time(fit.tokens_dense, cost.prefill_dense), time(fit.tokens_sparse, cost.prefill_sparse),
          time(fit.tokens_dense, cost.decode_dense), time(fit.tokens_sparse, cost.decode_sparse)};
}

// The longest of the lengths whose dense cache fits, so that there is something to compare with; else the shortest.
const LengthCost& longest_that_fits(const PlanView& view, const GpuFit& fit) {
  const LengthCost* best = &*std::ranges::min_element(view.report.lengths, {}, &LengthCost::tokens);
  for (const LengthCost& cost : view.report.lengths) {
    if (static_cast<double>(cost.tokens) <= fit.tokens_dense && cost.tokens > best->tokens) {
      best = &cost;
    }
  }
  return *best;
}

std::string gpus_text(const PlanView& view) {
  const std::vector<GpuFit>& gpus = view.report.gpus;
  Table table({"on", "tokens", "memory of each, dense", "sparse", "prefill, dense", "sparse",
               "decode of a token, dense", "sparse"});
  const auto add = [&](const GpuFit& fit, const LengthCost& cost) {
    std::vector<std::string> row = {fmt::format("{} x {}", fit.count, fit.gpu->name),
                                    tokens_text(static_cast<double>(cost.tokens)),
                                    format_bytes(memory_of_each(view, fit, cost.kv_dense)),
                                    format_bytes(memory_of_each(view, fit, cost.kv_sparse + cost.index))};
    std::ranges::move(times(view, fit, cost), std::back_inserter(row));
    table.add(std::move(row));
  };
  for (const GpuFit& fit : gpus) {
    if (fit.count > 0 && gpus.size() > 1) {
      add(fit, longest_that_fits(view, fit));
    } else if (fit.count > 0) {
      for (const LengthCost& cost : view.report.lengths) {
        add(fit, cost);
      }
    }
  }
  return table.text() +
         "  Memory: weights and caches. Times: what the datasheet's FLOPs and bandwidth allow at best; real programs "
         "take longer.\n";
}

}  // namespace

std::string flops_text(double flops) {
  constexpr std::array kUnits = {"FLOP", "kFLOP", "MFLOP", "GFLOP", "TFLOP", "PFLOP", "EFLOP", "ZFLOP"};
  size_t unit = 0;
  for (; flops >= 1000 && unit + 1 < kUnits.size(); ++unit) {
    flops /= 1000;
  }
  return fmt::format("{:.3g} {}", flops, kUnits[unit]);
}

std::string seconds_text(double seconds) {
  return seconds >= 1      ? format_duration(seconds)
         : seconds >= 1e-3 ? fmt::format("{:.3g} ms", seconds * 1e3)
                           : fmt::format("{:.3g} us", seconds * 1e6);
}

double seconds_on(const PlanView& view, const GpuFit& fit, const Work& work) {
  const Gpu& gpu = *fit.gpu;
  const auto count = static_cast<double>(fit.count);
  const double flops = view.dtype == "float32" ? gpu.fp32_flops_per_second : gpu.bf16_flops_per_second;
  return work.seconds(count * flops, count * gpu.bytes_per_second);
}

double memory_of_each(const PlanView& view, const GpuFit& fit, double cache_bytes) {
  return (view.report.weight_bytes + cache_bytes) / static_cast<double>(fit.count);
}

std::string plan_text(const PlanView& view) {
  std::string text = fmt::format("{}: {}, {}\n", view.model, view.config.architecture, view.dtype);
  text += parameters_text(view) + assumptions_text(view);
  for (const std::string& part : {caches_text(view), work_text(view), fit_text(view), gpus_text(view)}) {
    text += "\n" + part;
  }
  return text;
}

}  // namespace retrosparse::cli
