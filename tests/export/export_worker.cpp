// export_worker export MODEL OUT SETTINGS INDEX
// Exports MODEL with the settings (a json file) and the index (safetensors) to OUT/model, and the adapter alone to
// OUT/adapter.
//
// export_worker decode OUT IDS PROMPT RESULT
// Runs token ids (a json list) with the checkpoint OUT, the first PROMPT of them in one pass and the others one by one,
// and writes (safetensors) all logits, and what retrieval heads picked: rows of (layer, head, position, token).
#include <ATen/ops/cat.h>
#include <ATen/ops/tensor.h>

#include <cstdio>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/file.h"
#include "checkpoint/safetensors.h"
#include "checkpoint/safetensors_writer.h"
#include "export/export_adapter.h"
#include "export/export_model.h"
#include "export/load_converted.h"
#include "model/model.h"

namespace retrosparse {
namespace {

void export_to(const std::string& folder, const std::filesystem::path& out, const std::string& settings,
               const std::string& index) {
  const ModelConfig config = ModelConfig::read(folder);
  ConvertedModel converted = parse_settings(JsonObject::read(settings), config, at::kCPU);
  const SafetensorsFile file(index);
  std::map<std::string, at::Tensor> tensors;
  for (const auto& [name, info] : file.tensors()) {
    tensors.emplace(name, file.tensor(name));
  }
  converted.sparse.indexer.load(tensors);
  const Checkpoint source = Checkpoint::open(folder);
  export_model({source, config, converted}, out / "model");
  export_adapter({source, config, converted}, out / "adapter");
}

// Rows of (layer, head, position, token), int64 [N, 4].
class Picks {
 public:
  void add(const HeadPlan& plan, int64_t layer, int64_t first_position, const PickedTokens& picked) {
    const std::vector<int64_t>& heads = plan.retrieval_heads[static_cast<size_t>(layer)];
    for (int64_t place = 0; place < picked.counts.size(0); ++place) {
      for (int64_t row = 0; row < picked.counts.size(1); ++row) {
        for (int64_t i = 0; i < picked.counts[place][row].item<int64_t>(); ++i) {
          rows_.insert(rows_.end(), {layer, heads[static_cast<size_t>(place)], first_position + row,
                                     picked.positions[place][row][i].item<int64_t>()});
        }
      }
    }
  }
  at::Tensor tensor() const { return at::tensor(rows_, at::kLong).view({-1, 4}); }

 private:
  std::vector<int64_t> rows_;
};

std::map<std::string, at::Tensor> decode(const std::string& folder, const std::vector<int64_t>& ids, int64_t prompt) {
  const Model model = Model::load(folder, at::kCPU, at::kFloat);
  const ConvertedModel converted = load_converted(folder, model.config(), at::kCPU);
  SparseAttention attention(converted.sparse);
  attention.set_sparse_from(prompt);
  Picks picks;
  attention.observe_picks([&](int64_t layer, int64_t first_position, const PickedTokens& picked) {
    picks.add(converted.sparse.plan, layer, first_position, picked);
  });
  KvCache cache = model.make_cache();
  const at::IntArrayRef all(ids);
  std::vector<at::Tensor> logits;
  for (int64_t begin = 0; begin < static_cast<int64_t>(ids.size());) {
    const int64_t count = begin == 0 ? prompt : 1;
    const auto piece = all.slice(static_cast<size_t>(begin), static_cast<size_t>(count));
    logits.push_back(model.logits(model.forward(piece, {.cache = &cache, .attention = &attention, .observers = {}})));
    begin += count;
  }
  return {{"logits", at::cat(logits)}, {"picked", picks.tensor()}};
}

}  // namespace
}  // namespace retrosparse

int main(int argc, char** argv) {
  using namespace retrosparse;
  const std::vector<std::string> words(argv + 1, argv + argc);
  try {
    if (words.size() == 5 && words[0] == "export") {
      export_to(words[1], words[2], words[3], words[4]);
    } else if (words.size() == 5 && words[0] == "decode") {
      const auto ids = nlohmann::json::parse(read_text(words[2])).get<std::vector<int64_t>>();
      write_safetensors(words[4], decode(words[1], ids, std::stoll(words[3])));
    } else {
      throw Error("usage: see the top of export_worker.cpp");
    }
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
  return 0;
}
