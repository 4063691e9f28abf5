#include "export/export_model.h"

#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <vector>

#include "base/file.h"
#include "export/export_fixture.h"
#include "export/load_converted.h"
#include "model/tensor_match.h"

namespace retrosparse {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using nlohmann::ordered_json;

TEST_F(ExportTest, KeepsEveryTensorToTheBit) {
  export_to(out_);
  const Checkpoint source = Checkpoint::open(source_), out = Checkpoint::open(out_);
  EXPECT_EQ(out.names().size(), source.names().size() + 8);
  for (const std::string& name : source.names()) {
    EXPECT_EQ(out.info(name).dtype, at::kBFloat16);
    EXPECT_TRUE(at::equal(out.tensor(name), source.tensor(name))) << name;
  }
  EXPECT_EQ(out.info("model.layers.2.self_attn.indexer.q_proj.weight").dtype, at::kFloat);
  EXPECT_EQ(out.info("model.layers.2.self_attn.indexer.q_proj.weight").shape, (std::vector<int64_t>{3, 6, 8}));
  EXPECT_EQ(out.info("model.layers.0.self_attn.indexer.k_proj.weight").shape, (std::vector<int64_t>{1, 6, 8}));
  EXPECT_EQ(out.info("model.layers.0.self_attn.indexer.gate.weight").shape, (std::vector<int64_t>{2, 8}));
  EXPECT_EQ(out.info("model.layers.0.self_attn.indexer.gate.bias").shape, (std::vector<int64_t>{2}));
}

TEST_F(ExportTest, IsReadBack) {
  export_to(out_, {.max_shard_bytes = 20000});
  EXPECT_TRUE(fs::exists(out_ / kIndexFile));
  const ModelConfig config = ModelConfig::read(out_);
  EXPECT_TRUE(config.is_converted());
  EXPECT_FALSE(config_.is_converted());
  EXPECT_EQ(config.family, config_.family);
  const TensorMatch match = match_tensors(Checkpoint::open(out_), config);
  EXPECT_TRUE(match.missing.empty());
  EXPECT_TRUE(match.surplus.empty());
  expect_same_index(load_converted(out_, config, at::kCPU), converted_);
}

TEST_F(ExportTest, ChangesOnlyWhatItHasToInTheConfiguration) {
  export_to(out_);
  const auto before = ordered_json::parse(read_text(source_ / "config.json"));
  const auto after = ordered_json::parse(read_text(out_ / "config.json"));
  EXPECT_EQ(after["architectures"], json::array({"RetroSparseQwen3MoeForCausalLM"}));
  EXPECT_EQ(after["model_type"], "retrosparse_qwen3_moe");
  EXPECT_EQ(after["auto_map"]["AutoConfig"], "configuration_retrosparse.RetroSparseQwen3MoeConfig");
  EXPECT_EQ(after["auto_map"]["AutoModelForCausalLM"], "modeling_retrosparse.RetroSparseQwen3MoeForCausalLM");
  EXPECT_EQ(json(after["retrosparse"]), tiny_settings());
  auto place = after.begin();
  for (const auto& [key, value] : before.items()) {
    EXPECT_EQ(place.key(), key);
    if (key != "architectures") {
      EXPECT_EQ(*place, value);
    }
    ++place;
  }
}

TEST_F(ExportTest, BringsTheEngineAndTheTokenizer) {
  put_file(source_ / "tokenizer.json", "{\"a\": 1}");
  put_file(source_ / "generation_config.json", "{}");
  put_file(source_ / "LICENSE", "free");
  put_file(source_ / "optimizer.pt", "not for others");
  export_to(out_);
  const fs::path engine = fs::path(RETROSPARSE_SOURCE_DIR) / "engines" / "transformers";
  int num_files = 0;
  for (const fs::directory_entry& entry : fs::directory_iterator(engine)) {
    if (entry.path().extension() == ".py") {
      EXPECT_EQ(read_text(out_ / entry.path().filename()), read_text(entry.path()));
      ++num_files;
    }
  }
  EXPECT_EQ(num_files, 5);
  for (const char* name : {"tokenizer.json", "generation_config.json", "LICENSE"}) {
    EXPECT_EQ(read_text(out_ / name), read_text(source_ / name));
  }
  EXPECT_FALSE(fs::exists(out_ / "optimizer.pt"));
  const std::string card = read_text(out_ / "README.md");
  EXPECT_TRUE(contains(card, "| retrieval heads | 5 of 18 |"));
  EXPECT_TRUE(contains(card, "the first 4 tokens and the latest 8"));
  EXPECT_TRUE(
      contains(card, "`top_p`: until 0.5 to 1 of the attention mass is covered, at least 0 to 3, at most 3 to 12"));
  EXPECT_TRUE(contains(card, "| far tokens that are not picked | do not count |"));
}

TEST_F(ExportTest, SaysInItsCardWhatTheTailDoes) {
  converted_.sparse.selection.tail_block = 8;
  export_to(out_);
  EXPECT_TRUE(contains(read_text(out_ / "README.md"),
                       "| far tokens that are not picked | count by their index score and the mean value of their "
                       "block of 8 (`tail_block`) |"));
}

TEST_F(ExportTest, HasAnEngineForEveryFamily) {
  for (const Family& family : Family::all()) {
    for (const std::string& architecture : family.architectures) {
      json config = tiny_config();
      config["architectures"] = {architecture};
      config["sliding_window"] = nullptr;
      write_source(config);
      const fs::path out = folder_ / architecture;
      export_to(out);
      EXPECT_EQ(ModelConfig::read(out).architecture, "RetroSparse" + architecture);
      EXPECT_EQ(ModelConfig::read(out).family, &family);
    }
  }
}

TEST_F(ExportTest, WritesTrainedWeightsInTheDtypeOfTheSource) {
  const Checkpoint source = Checkpoint::open(source_);
  const ModelWeights weights = load_weights(source, config_, at::kCPU, at::kFloat);
  for (const TensorBinding& binding : bind_tensors(config_, weights)) {
    at::Tensor view = binding.view;
    view.mul_(1.5);
  }
  export_to(out_, {}, &weights);
  const Checkpoint out = Checkpoint::open(out_);
  for (const std::string& name : source.names()) {
    EXPECT_EQ(out.info(name).dtype, at::kBFloat16);
    EXPECT_TRUE(at::equal(out.tensor(name), (source.tensor(name).to(at::kFloat) * 1.5).to(at::kBFloat16))) << name;
  }
  EXPECT_TRUE(contains(read_text(out_ / "README.md"), "trained further"));
}

TEST_F(ExportTest, StoresATiedEmbeddingOnce) {
  std::map<std::string, at::Tensor> tensors = random_tensors_for(config_);
  const at::Tensor table = tensors.at("model.embed_tokens.weight");
  tensors.erase("model.embed_tokens.weight");
  tensors["lm_head.weight"] = table;
  write_safetensors(source_ / "model.safetensors", tensors);
  export_to(out_);
  const Checkpoint out = Checkpoint::open(out_);
  EXPECT_FALSE(out.has("lm_head.weight"));
  EXPECT_TRUE(at::equal(out.tensor("model.embed_tokens.weight"), table));
}

TEST_F(ExportTest, KeepsBothTablesWhereTheyAreTiedInNameOnly) {
  std::map<std::string, at::Tensor> tensors = random_tensors_for(config_);
  const at::Tensor table = tensors.at("model.embed_tokens.weight") + 1;
  tensors["lm_head.weight"] = table;
  write_safetensors(source_ / "model.safetensors", tensors);
  const Model model = Model::load(source_, at::kCPU, at::kFloat);
  for (const ModelWeights* weights : {static_cast<const ModelWeights*>(nullptr), &model.weights()}) {
    export_to(out_, {.replace = true}, weights);
    EXPECT_TRUE(at::equal(Checkpoint::open(out_).tensor("lm_head.weight"), table));
    EXPECT_FALSE(ModelConfig::read(out_).tie_word_embeddings);
    EXPECT_TRUE(at::equal(Model::load(out_, at::kCPU, at::kFloat).weights().lm_head, table));
  }
}

TEST_F(ExportTest, KeepsFusedExpertsAsTheyAreStored) {
  const ModelWeights weights = allocate_weights(config_, at::kCPU, at::kFloat);
  std::map<std::string, at::Tensor> tensors;
  for (const TensorBinding& binding : bind_tensors(config_, weights, ExpertLayout::kFused)) {
    tensors[binding.name] = at::randn(binding.view.sizes()).to(at::kBFloat16);
  }
  write_safetensors(source_ / "model.safetensors", tensors);
  const Model model = Model::load(source_, at::kCPU, at::kFloat);
  for (const ModelWeights* trained : {static_cast<const ModelWeights*>(nullptr), &model.weights()}) {
    export_to(out_, {.replace = true}, trained);
    const Checkpoint out = Checkpoint::open(out_);
    for (const auto& [name, tensor] : tensors) {
      EXPECT_TRUE(at::equal(out.tensor(name), tensor)) << name;
    }
  }
}

TEST_F(ExportTest, ExportsAConvertedModelAgain) {
  export_to(out_);
  const Checkpoint source = Checkpoint::open(out_);
  const ModelConfig config = ModelConfig::read(out_);
  converted_.sparse.plan.local.window = 9;
  export_model({source, config, converted_}, folder_ / "again");
  EXPECT_EQ(ModelConfig::read(folder_ / "again").architecture, config.architecture);
  expect_same_index(load_converted(folder_ / "again", config, at::kCPU), converted_);
}

TEST_F(ExportTest, ReplacesOnlyAnEarlierExportAndOnlyWhenAsked) {
  export_to(out_);
  const std::string before = read_text(out_ / "config.json");
  EXPECT_TRUE(contains(error_of([&] { export_to(out_); }), "exists and is not empty"));
  converted_.sparse.plan.local.window = 9;
  export_to(out_, {.replace = true});
  EXPECT_NE(read_text(out_ / "config.json"), before);

  put_file(out_ / "notes.md", "years");
  EXPECT_TRUE(contains(error_of([&] { export_to(out_, {.replace = true}); }), "notes.md: will not be replaced"));
  EXPECT_EQ(read_text(out_ / "notes.md"), "years");
  fs::create_directories(folder_ / "thesis");
  put_file(folder_ / "thesis" / "chapter.tex", "years");
  EXPECT_TRUE(
      contains(error_of([&] { export_to(folder_ / "thesis", {.replace = true}); }), "expected an earlier export"));
  EXPECT_EQ(read_text(folder_ / "thesis" / "chapter.tex"), "years");
  fs::create_directories(folder_ / "empty");
  EXPECT_NO_THROW(export_to(folder_ / "empty"));
}

TEST_F(ExportTest, NeverTouchesItsSource) {
  for (const fs::path& out : {source_, source_ / "", folder_.path(), folder_ / "out/../source"}) {
    EXPECT_TRUE(
        contains(error_of([&] { export_to(out, {.replace = true}); }), "the model that is exported lies there"));
  }
  fs::create_directory_symlink(source_, folder_ / "link");
  EXPECT_TRUE(
      contains(error_of([&] { export_to(folder_ / "link", {.replace = true}); }), "the model that is exported"));
  EXPECT_NO_THROW(Checkpoint::open(source_));
}

TEST_F(ExportTest, LeavesNothingBehindWhenTheDiskIsFull) {
  export_to(out_);
  const std::string before = read_text(out_ / "config.json");
  const std::set<std::string> names = folder_.names();
  converted_.sparse.plan.local.window = 9;
  {
    const FileSizeLimit limit(20000);
    EXPECT_TRUE(contains(error_of([&] { export_to(out_, {.replace = true}); }), "model.safetensors"));
  }
  EXPECT_EQ(read_text(out_ / "config.json"), before);
  EXPECT_EQ(folder_.names(), names);
}

TEST_F(ExportTest, RefusesASourceThatDoesNotFit) {
  std::map<std::string, at::Tensor> tensors = random_tensors_for(config_);
  tensors.erase("model.norm.weight");
  write_safetensors(source_ / "model.safetensors", tensors);
  EXPECT_TRUE(contains(error_of([&] { export_to(out_); }), "model.norm.weight"));
  EXPECT_FALSE(fs::exists(out_));
}

}  // namespace
}  // namespace retrosparse
