#include "cli/inspect_profile.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <nlohmann/json.hpp>
#include <vector>

#include "base/error.h"
#include "cli/output.h"
#include "convert/artifacts.h"
#include "report/report_json.h"

namespace retrosparse::cli {

namespace fs = std::filesystem;

namespace {

constexpr char kHeadPlan[] = "head_plan.json", kProfileFolder[] = "profile";
constexpr size_t kShownHeads = 16;

// A path that cannot be looked at is left to whoever reads it, who says why.
bool is_there(const fs::path& path) {
  std::error_code ignored;
  return fs::exists(path, ignored);
}

bool is_conversion(const fs::path& folder) {
  return is_there(folder / "manifest.json") && !is_there(folder / "config.json");
}

struct RankedHead {
  size_t layer, head;
  double score, spread;
  bool is_chosen;

  std::string text() const { return fmt::format("{:.4f} ({}.{})", score, layer, head); }
};

// All heads, best first; ties in the order of layers and heads, as they are chosen.
std::vector<RankedHead> ranked_heads(const Report::Profile& profile) {
  std::vector<RankedHead> heads;
  for (size_t layer = 0; layer < profile.mean.size(); ++layer) {
    for (size_t head = 0; head < profile.mean[layer].size(); ++head) {
      const bool is_chosen =
          std::ranges::find(profile.retrieval_heads[layer], head) != profile.retrieval_heads[layer].end();
      heads.push_back({layer, head, profile.mean[layer][head], profile.spread[layer][head], is_chosen});
    }
  }
  std::ranges::stable_sort(heads, std::greater(), [](const RankedHead& head) {
    return std::isnan(head.score) ? -std::numeric_limits<double>::infinity() : head.score;  // which has no order
  });
  return heads;
}

std::string head_table(const std::vector<RankedHead>& heads) {
  Table table({"layer", "head", "score", "spread", "retrieval head"});
  for (size_t rank = 0; rank < std::min(kShownHeads, heads.size()); ++rank) {
    const RankedHead& head = heads[rank];
    table.add({std::to_string(head.layer), std::to_string(head.head), fmt::format("{:.4f}", head.score),
               fmt::format("{:.4f}", head.spread), head.is_chosen ? "yes" : "no"});
  }
  return table.text(4);
}

}  // namespace

std::optional<fs::path> find_head_plan(const fs::path& path) {
  if (path.filename() == kHeadPlan) {
    return path;
  }
  std::error_code ignored;
  const fs::path folder = fs::weakly_canonical(path, ignored);  // "OUT/profile/" and "." have names of their own
  fs::path plan;
  if (is_conversion(path)) {
    plan = path / kProfileFolder / kHeadPlan;
  } else if (is_there(path / kHeadPlan) ||
             (folder.filename() == kProfileFolder && is_conversion(folder.parent_path()))) {
    plan = path / kHeadPlan;
  } else {
    return std::nullopt;
  }
  if (!is_there(plan)) {
    throw Error("a conversion that has not chosen its retrieval heads yet")
        .file(path.string())
        .expected(fmt::format("{}, which the stage 'profile' writes", plan.string()))
        .found("no such file");
  }
  return plan;
}

Report read_profile(const fs::path& head_plan) {
  Report report = read_results(head_plan);
  if (!report.profile) {
    throw Error("not a head plan: missing").file(head_plan.string()).key("profile");
  }
  return report;
}

std::string describe_profile(const Report& report) {
  const Report::Model& model = report.model;
  const Report::Profile& profile = *report.profile;
  const std::vector<RankedHead> heads = ranked_heads(profile);
  const auto chosen = std::ranges::count_if(heads, &RankedHead::is_chosen);
  const auto layers = std::ranges::count_if(profile.retrieval_heads, [](const auto& layer) { return !layer.empty(); });
  std::string text;
  text += field("model",
                fmt::format("{} (family {}): {} layers, {} query heads, {} key/value heads", model.name, model.family,
                            model.num_hidden_layers, model.num_attention_heads, model.num_key_value_heads));
  text += field("measured on", fmt::format("{} document{} of {} tokens", profile.documents,
                                           profile.documents == 1 ? "" : "s", model.context_length));
  text += field("retrieval heads",
                fmt::format("{} of {}, in {} of {} layers", chosen, heads.size(), layers, model.num_hidden_layers));
  text += field("policy", fmt::format("{}, ratio {:g}", profile.policy, profile.ratio));
  text += field("stability",
                std::isfinite(profile.stability)
                    ? fmt::format("{:.3f} of the best heads are found by a single document as well", profile.stability)
                    : "not known from one document");
  text += field("local heads see",
                fmt::format("the first {} tokens and the latest {}", profile.sink_tokens, profile.window));
  const auto best_other = std::ranges::find_if_not(heads, &RankedHead::is_chosen);
  const auto last_chosen = std::find_if(heads.rbegin(), heads.rend(), [](const auto& head) { return head.is_chosen; });
  if (best_other != heads.end() && last_chosen != heads.rend()) {
    text += field("scores", fmt::format("lowest of the retrieval heads {}, highest of the others {}",
                                        last_chosen->text(), best_other->text()));
  }
  return text + head_table(heads);
}

nlohmann::ordered_json profile_json(const Report& report) {
  const nlohmann::ordered_json json = report_json(report);
  return {{"model", json.at("model")}, {"profile", json.at("profile")}};
}

}  // namespace retrosparse::cli
