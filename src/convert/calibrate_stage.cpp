#include <algorithm>
#include <limits>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <tuple>
#include <utility>

#include "calibrate/gates.h"
#include "calibrate/tile_share.h"
#include "convert/artifacts.h"
#include "convert/stage.h"
#include "validate/selection_curve.h"

namespace retrosparse {
namespace {

std::vector<Report::TaskKl> kl_by_task(const std::map<std::string, LabelScores>& scores) {
  std::vector<Report::TaskKl> tasks;
  for (const auto& [task, sums] : scores) {
    tasks.push_back({task, sums.rows, sums.kl / static_cast<double>(sums.rows)});
  }
  return tasks;
}

// The least setting of any head, and where heads differ the most, too.
template <typename T>
std::pair<std::optional<T>, std::optional<T>> range_of(const SelectionSettings& selection, T GateSettings::*setting) {
  std::optional<T> least, most;
  for (const std::vector<GateSettings>& layer : selection.gates) {
    for (const GateSettings& gate : layer) {
      least = std::min(least.value_or(gate.*setting), gate.*setting);
      most = std::max(most.value_or(gate.*setting), gate.*setting);
    }
  }
  return {least, least < most ? most : std::nullopt};
}

Report::SelectionPoint shown(const CurvePoint& point) {
  Report::SelectionPoint result;
  const SelectionSettings& selection = point.selection;
  result.rule = selection.by_exact_scores ? "oracle" : name_of(selection.rule);
  if (selection.rule != SelectionRule::kTopK) {
    std::tie(result.p, result.most_p) = range_of(selection, &GateSettings::p);
  }
  if (selection.rule == SelectionRule::kTopP) {
    std::tie(result.min_tokens, result.most_min_tokens) = range_of(selection, &GateSettings::min_tokens);
  }
  if (selection.rule != SelectionRule::kPaper) {
    std::tie(result.max_tokens, result.most_max_tokens) = range_of(selection, &GateSettings::max_tokens);
  }
  result.by_head = result.most_p || result.most_min_tokens || result.most_max_tokens;
  if (selection.tail_block > 0) {
    result.tail_block = selection.tail_block;
  }
  result.kl = point.kl();
  result.far_tokens = point.far_tokens();
  result.accuracy = point.accuracy();
  result.tasks = kl_by_task(point.by_task);
  return result;
}

Report::PrefillPoint shown(const TilePoint& point) {
  const auto [least, most] = point.prefill.range_of_shares();
  Report::PrefillPoint result{.tile_share = least,
                              .density = point.counts.density(),
                              .kl = point.kl(),
                              .accuracy = point.accuracy(),
                              .tasks = kl_by_task(point.by_task)};
  if (least < most) {
    result.most_tile_share = most;
  }
  return result;
}

// What every retrieval head was given; nothing by rules that have no gates.
std::vector<Report::HeadGate> gates_by_head(const HeadPlan& plan, const SelectionSettings& selection) {
  std::vector<Report::HeadGate> gates;
  for (size_t layer = 0; layer < selection.gates.size() && selection.rule == SelectionRule::kTopP; ++layer) {
    for (size_t place = 0; place < selection.gates[layer].size(); ++place) {
      const GateSettings& gate = selection.gates[layer][place];
      gates.push_back({.layer = static_cast<int64_t>(layer),
                       .head = plan.retrieval_heads[layer][place],
                       .p = gate.p,
                       .min_tokens = gate.min_tokens,
                       .max_tokens = gate.max_tokens});
    }
  }
  return gates;
}

// What the chosen rule is compared with, at the same rows: top_k with the oracle beside, the paper's, and the recipe's
// own rule without its tail, since none of the others has one.
std::vector<SelectionSettings> rivals(const HeadPlan& plan, const Recipe& recipe, const SelectionSettings& own) {
  std::vector<SelectionSettings> settings;
  for (const int64_t count : {16, 64, 256, 1024}) {
    settings.push_back(SelectionSettings::uniform(plan, SelectionRule::kTopK, {0.9, count, count}));
    SelectionSettings oracle = settings.back();
    oracle.by_exact_scores = true;
    settings.push_back(std::move(oracle));
  }
  for (const double p : std::set{0.5, recipe.validate.paper_p}) {
    settings.push_back(SelectionSettings::uniform(plan, SelectionRule::kPaper, {p, 0, 1}));
  }
  if (own.tail_block > 0) {
    settings.push_back(own);
    settings.back().tail_block = 0;
  }
  return settings;
}

// [L][H]: what each retrieval head picked for a row, mean; NaN for local heads.
Report::HeadTable far_tokens_by_head(const HeadPlan& plan, const HeadCounts& counts) {
  const double none = std::numeric_limits<double>::quiet_NaN();
  Report::HeadTable table(counts.size(), std::vector<double>(static_cast<size_t>(plan.num_attention_heads), none));
  for (size_t layer = 0; layer < counts.size(); ++layer) {
    for (size_t place = 0; place < counts[layer].size(); ++place) {
      table[layer][static_cast<size_t>(plan.retrieval_heads[layer][place])] = counts[layer][place].mean();
    }
  }
  return table;
}

GateSearch search_of(const Recipe& recipe) {
  const Recipe::Calibrate& calibrate = recipe.calibrate;
  return {.p = calibrate.p,
          .min_tokens = calibrate.min_tokens,
          .max_tokens = calibrate.max_tokens,
          .kl_target = calibrate.kl_target,
          .tail_block = recipe.selection.tail_block,
          .head_rounds = calibrate.head_rounds};
}

void calibrate(Workspace& workspace, const Model& student, const std::filesystem::path& folder) {
  if (!workspace.group().is_main()) {
    return;
  }
  const Recipe& recipe = workspace.recipe();
  ConvertedModel model = read_trained_model(workspace);
  SparseModel& sparse = model.sparse;
  const TaskSuite suite = workspace.tasks(Split::kCalibration);
  const std::vector<std::string>& tasks = recipe.calibrate.tasks;
  const int64_t num_tasks = static_cast<int64_t>(tasks.size()), num_samples = num_tasks * recipe.calibrate.samples;
  const auto sample = [&](int64_t index) {
    return workspace.scored_sample(suite, tasks[static_cast<size_t>(index % num_tasks)], index / num_tasks,
                                   recipe.calibrate.rows_per_sample);
  };
  const int64_t chunk = workspace.options().prefill_chunk;
  Report report = workspace.empty_report();
  if (recipe.calibrate.enabled) {
    Report::Selection& selection = report.selection.emplace();
    std::vector<SelectionSettings> others = rivals(sparse.plan, recipe, sparse.selection);
    others.push_back(sparse.selection);
    const SelectionCurve measured = measure_selections(student, sparse, num_samples, sample, others, chunk);
    CurvePoint chosen = measured.points.back();
    selection.target_met = chosen.kl() <= recipe.calibrate.kl_target;
    for (const CurvePoint& point : measured.points) {
      selection.points.push_back(shown(point));
    }
    if (recipe.selection.rule == SelectionRule::kTopP) {
      CalibratedGates gates = calibrate_gates(student, sparse, num_samples, sample, search_of(recipe), chunk);
      for (const CurvePoint& point : gates.curve) {
        selection.points.push_back(shown(point));
      }
      for (const CurvePoint& point : gates.by_head) {
        selection.points.push_back(shown(point));
      }
      chosen = std::move(gates.chosen);
      selection.target_met = gates.target_met;
    }
    selection.samples = num_samples;
    selection.rows = measured.dense_retrieval.rows;
    selection.dense_accuracy =
        static_cast<double>(measured.dense_retrieval.correct) / static_cast<double>(measured.dense_retrieval.rows);
    const SelectionCounts counts = total(chosen.counts);
    selection.far_available = static_cast<double>(counts.far_available) / static_cast<double>(counts.rows);
    selection.far_tokens = far_tokens_by_head(sparse.plan, chosen.counts);
    selection.gates = gates_by_head(sparse.plan, chosen.selection);
    selection.chosen = shown(chosen);
    selection.kl_target = recipe.calibrate.kl_target;
    sparse.selection = std::move(chosen.selection);
  }
  Report::Prefill& prefill = report.prefill.emplace();
  prefill.mode = "dense";
  if (sparse.prefill.mode == PrefillMode::kTiles) {
    prefill.mode = "tiles";
    if (recipe.calibrate.enabled) {
      const TileSearch search{recipe.calibrate.tile_shares, recipe.calibrate.tile_kl_target,
                              recipe.calibrate.tile_head_rounds};
      const CalibratedTiles tiles = calibrate_tiles(student, sparse, num_samples, sample, search, chunk);
      for (const std::vector<TilePoint>& points : {tiles.curve, tiles.by_head}) {
        for (const TilePoint& point : points) {
          prefill.points.push_back(shown(point));
        }
      }
      prefill.chosen = shown(tiles.chosen);
      prefill.kl_target = search.kl_target;
      prefill.target_met = tiles.target_met;
      sparse.prefill = tiles.chosen.prefill;
    }
    prefill.tile_share = prefill.chosen ? prefill.chosen->tile_share : sparse.prefill.tile_share;
  }
  write_gates(model, folder / "gates.json");
  write_results(report, folder / "results.json");
}

}  // namespace

void run_calibrate(Workspace& workspace) {
  calibrate(workspace, workspace.dense_model(), workspace.folder("calibrate"));
}

void run_recalibrate(Workspace& workspace) {
  calibrate(workspace, workspace.converted_model(), workspace.folder("recalibrate"));
}

}  // namespace retrosparse
