#include <cmath>

#include "convert/artifacts.h"
#include "convert/stage.h"
#include "profile/retrieval_scores.h"

namespace retrosparse {

void run_profile(Workspace& workspace) {
  const Recipe& recipe = workspace.recipe();
  if (!workspace.group().is_main()) {
    return;
  }
  const NeedlePairs pairs = workspace.needle_pairs();
  std::vector<NeedlePair> documents;
  for (int64_t document = 0; document < recipe.profile.documents; ++document) {
    documents.push_back(pairs.pair(recipe.context_length, document, /*needle=*/document));
  }
  const RetrievalScores scores =
      measure_retrieval(workspace.dense_model(), documents, workspace.options().prefill_chunk);

  Report report = workspace.empty_report();
  Report::Profile& profile = report.profile.emplace();
  profile.mean = scores.mean;
  profile.spread = scores.spread;
  profile.retrieval_heads = choose_retrieval_heads(scores.mean, recipe.plan.ratio, recipe.plan.policy,
                                                   workspace.config().num_key_value_heads);
  profile.policy = recipe.plan.policy == HeadPolicy::kKvGroup ? "kv_group" : "query_head";
  profile.ratio = recipe.plan.ratio;
  int64_t count = 0;
  for (const auto& heads : profile.retrieval_heads) {
    count += static_cast<int64_t>(heads.size());
  }
  profile.stability = scores.stability(count);
  profile.documents = recipe.profile.documents;
  profile.window = recipe.plan.window;
  profile.sink_tokens = recipe.plan.sink_tokens;
  write_results(report, workspace.folder("profile") / "head_plan.json");
}

}  // namespace retrosparse
