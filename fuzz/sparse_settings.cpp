#include <nlohmann/json.hpp>

#include "export/settings_json.h"
#include "fuzz.h"

namespace retrosparse {
namespace {

ModelConfig small_config() {
  ModelConfig config;
  config.num_hidden_layers = 4;
  config.num_attention_heads = 8;
  config.num_key_value_heads = 2;
  config.head_dim = 64;
  return config;
}

}  // namespace
}  // namespace retrosparse

/// The key "retrosparse" of a converted model's config.json. What is accepted fits the model and is written as it was.
RETROSPARSE_FUZZ_TARGET(bytes) {
  using namespace retrosparse;
  static const ModelConfig config = small_config();
  const ConvertedModel model = parse_settings(JsonObject::parse(as_text(bytes), "config.json"), config, at::kMeta);
  model.sparse.plan.check(config);
  for (size_t layer = 0; layer < model.sparse.plan.retrieval_heads.size(); ++layer) {
    fuzz_check(model.sparse.selection.gates.at(layer).size() == model.sparse.plan.retrieval_heads[layer].size(),
               "each retrieval head has its gate");
  }
  const nlohmann::json written = settings_json(model);
  const ConvertedModel again = parse_settings(JsonObject::from(written, "again"), config, at::kMeta);
  fuzz_check(nlohmann::json(settings_json(again)) == written, "settings survive being written and read");
}
