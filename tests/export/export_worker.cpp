// export_worker MODEL OUT SETTINGS INDEX IDS PROMPT LOGITS
// Exports MODEL with the settings (a json file) and the index (safetensors) to OUT, reads OUT back, runs the token ids
// (a json list) with it, the first PROMPT of them in one pass and the others one by one, and writes all logits
// (safetensors).
#include <ATen/ops/cat.h>

#include <cstdio>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/file.h"
#include "checkpoint/safetensors.h"
#include "checkpoint/safetensors_writer.h"
#include "export/export_model.h"
#include "export/load_converted.h"
#include "model/model.h"

namespace retrosparse {
namespace {

void export_to(const std::string& folder, const std::string& out, const std::string& settings,
               const std::string& index) {
  const ModelConfig config = ModelConfig::read(folder);
  ConvertedModel converted = parse_settings(JsonObject::read(settings), config, at::kCPU);
  const SafetensorsFile file(index);
  std::map<std::string, at::Tensor> tensors;
  for (const auto& [name, info] : file.tensors()) {
    tensors.emplace(name, file.tensor(name));
  }
  converted.sparse.indexer.load(tensors);
  export_model({Checkpoint::open(folder), config, converted}, out);
}

at::Tensor decode(const std::string& folder, const std::vector<int64_t>& ids, int64_t prompt) {
  const Model model = Model::load(folder, at::kCPU, at::kFloat);
  const ConvertedModel converted = load_converted(folder, model.config(), at::kCPU);
  SparseAttention attention(converted.sparse);
  attention.set_sparse_from(prompt);
  KvCache cache = model.make_cache();
  const at::IntArrayRef all(ids);
  std::vector<at::Tensor> logits;
  for (int64_t begin = 0; begin < static_cast<int64_t>(ids.size());) {
    const int64_t count = begin == 0 ? prompt : 1;
    const auto piece = all.slice(static_cast<size_t>(begin), static_cast<size_t>(count));
    logits.push_back(model.logits(model.forward(piece, {.cache = &cache, .attention = &attention, .observers = {}})));
    begin += count;
  }
  return at::cat(logits);
}

}  // namespace
}  // namespace retrosparse

int main(int argc, char** argv) {
  using namespace retrosparse;
  if (argc != 8) {
    std::fputs("usage: export_worker MODEL OUT SETTINGS INDEX IDS PROMPT LOGITS\n", stderr);
    return 2;
  }
  try {
    export_to(argv[1], argv[2], argv[3], argv[4]);
    const auto ids = nlohmann::json::parse(read_text(argv[5])).get<std::vector<int64_t>>();
    write_safetensors(argv[7], {{"logits", decode(argv[2], ids, std::stoll(argv[6]))}});
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
  return 0;
}
