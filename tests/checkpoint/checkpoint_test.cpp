#include "checkpoint/checkpoint.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "base/testing.h"
#include "checkpoint/safetensors_writer.h"

namespace retrosparse {
namespace {

namespace fs = std::filesystem;
using Tensors = std::map<std::string, at::Tensor>;

/// Ten tensors of 400 bytes.
Tensors ten_tensors() {
  at::manual_seed(0);
  Tensors tensors;
  for (int i = 0; i < 10; ++i) {
    tensors["layer." + std::to_string(i) + ".weight"] = at::randn({10, 10});
  }
  return tensors;
}

void write_index(const fs::path& folder, const std::map<std::string, std::string>& weight_map) {
  put_file(folder / kIndexFile, nlohmann::json({{"weight_map", weight_map}}).dump());
}

/// Every file of a folder and what it holds.
std::map<std::string, std::string> contents(const TempFolder& folder) {
  std::map<std::string, std::string> result;
  for (const std::string& name : folder.names()) {
    result[name] = read_text(folder / name);
  }
  return result;
}

TEST(Checkpoint, OpensASingleFile) {
  const TempFolder folder;
  const Tensors tensors = ten_tensors();
  write_sharded(folder.path(), tensors, 4000);
  EXPECT_EQ(folder.names(), std::set<std::string>{kSingleFile}) << "exactly the limit still fits";
  const Checkpoint checkpoint = Checkpoint::open(folder.path());
  EXPECT_EQ(checkpoint.names().size(), 10U);
  EXPECT_EQ(checkpoint.total_bytes(), 4000U);
  EXPECT_EQ(checkpoint.file_of("layer.3.weight"), kSingleFile);
  EXPECT_TRUE(checkpoint.tensor("layer.3.weight").equal(tensors.at("layer.3.weight")));
  EXPECT_EQ(checkpoint.dir(), folder.path());
}

TEST(Checkpoint, OpensShards) {
  const TempFolder folder;
  Tensors tensors = ten_tensors();
  tensors["layer.5.weight"] = at::randn({40, 10});  // 1600 bytes: more than a shard may hold
  write_sharded(folder / "new/model", tensors, 1000);
  const Checkpoint checkpoint = Checkpoint::open(folder / "new/model");
  std::map<std::string, uint64_t> bytes;
  for (const auto& [name, tensor] : tensors) {
    EXPECT_TRUE(checkpoint.tensor(name).equal(tensor)) << name;
    EXPECT_EQ(checkpoint.info(name).shape, tensor.sizes().vec());
    bytes[checkpoint.file_of(name)] += tensor.nbytes();
  }
  EXPECT_EQ(bytes.size(), 6U) << "0-1, 2-3, 4, 5, 6-7, 8-9";
  for (const auto& [file, size] : bytes) {
    EXPECT_TRUE(size <= 1000 || file == checkpoint.file_of("layer.5.weight")) << file << " " << size;
  }
  EXPECT_EQ(checkpoint.file_of("layer.0.weight"), "model-00001-of-00006.safetensors");
  EXPECT_EQ(JsonObject::read(folder / "new/model" / kIndexFile).object("metadata").get<int64_t>("total_size"), 5200);
  EXPECT_EQ(checkpoint.total_bytes(), 5200U);
  EXPECT_TRUE(checkpoint.surplus().empty());
}

TEST(Checkpoint, ARewriteIsByteIdentical) {
  const TempFolder first, second;
  write_sharded(first.path(), ten_tensors(), 1000);
  const Checkpoint checkpoint = Checkpoint::open(first.path());
  Tensors tensors;
  for (const std::string& name : checkpoint.names()) {
    tensors[name] = checkpoint.tensor(name);
  }
  write_sharded(second.path(), tensors, 1000);
  EXPECT_EQ(contents(first), contents(second));
  write_sharded(first.path(), tensors, 1000);  // in place, from tensors that are mapped from there
  EXPECT_EQ(contents(first), contents(second));
}

TEST(Checkpoint, SaysWhatWasLookedFor) {
  const TempFolder folder;
  EXPECT_EQ(error_of([&] { Checkpoint::open(folder.path()); }),
            folder.path().string() +
                ": no weights in this folder: expected model.safetensors or model.safetensors.index.json");
  put_file(folder / "pytorch_model.bin", "x");
  EXPECT_TRUE(
      contains(error_of([&] { Checkpoint::open(folder.path()); }), "found pytorch_model.bin (only safetensors"));
  EXPECT_TRUE(contains(error_of([&] { Checkpoint::open(folder / "gone"); }), "/gone: no such folder"));
  EXPECT_TRUE(contains(error_of([&] { Checkpoint::open(folder / "pytorch_model.bin"); }), "not a folder"));
}

TEST(Checkpoint, NamesMissingShardsAndTensors) {
  const TempFolder folder;
  write_safetensors(folder / "a.safetensors", {{"x", at::ones({1})}});
  write_index(folder.path(), {{"x", "a.safetensors"}, {"y", "b.safetensors"}, {"z", "c.safetensors"}});
  EXPECT_EQ(
      error_of([&] { Checkpoint::open(folder.path()); }),
      (folder / kIndexFile).string() + ": names files that are not in the folder: found b.safetensors, c.safetensors");
  write_index(folder.path(), {{"x", "a.safetensors"}, {"y", "a.safetensors"}});
  EXPECT_EQ(
      error_of([&] { Checkpoint::open(folder.path()); }),
      (folder / kIndexFile).string() + ": lists tensors that their files do not have: found 'y' in a.safetensors");
}

TEST(Checkpoint, ReportsSurplusTensors) {
  const TempFolder folder;
  write_safetensors(folder / "a.safetensors", {{"x", at::zeros({1})}, {"extra", at::ones({1})}});
  write_safetensors(folder / "b.safetensors", {{"x", at::ones({1})}, {"y", at::ones({1})}});
  write_index(folder.path(), {{"x", "b.safetensors"}, {"y", "b.safetensors"}});
  EXPECT_TRUE(Checkpoint::open(folder.path()).surplus().empty()) << "a file that is not listed is none of its shards";
  write_index(folder.path(), {{"x", "a.safetensors"}, {"y", "b.safetensors"}});
  const Checkpoint checkpoint = Checkpoint::open(folder.path());
  EXPECT_EQ(checkpoint.surplus(), (std::vector<std::string>{"extra", "x"}));
  EXPECT_EQ(checkpoint.tensor("x").item<float>(), 0) << "the index decides";
  EXPECT_FALSE(checkpoint.has("extra"));
  EXPECT_TRUE(contains(error_of([&] { checkpoint.tensor("extra"); }), "tensor 'extra': not in this checkpoint"));
}

TEST(Checkpoint, RefusesIndexesThatLeaveTheFolder) {
  const TempFolder folder;
  write_safetensors(folder / "a.safetensors", {{"x", at::ones({1})}});
  fs::create_directory(folder / "model");
  for (const std::string& file : {std::string("../a.safetensors"), (folder / "a.safetensors").string(),
                                  std::string(".."), std::string("."), std::string(""), std::string("a\0b", 3)}) {
    write_index(folder / "model", {{"x", file}});
    EXPECT_TRUE(contains(error_of([&] { Checkpoint::open(folder / "model"); }),
                         "key 'weight_map.x': not the name of a file in this folder"))
        << file;
  }
}

TEST(Checkpoint, RefusesBrokenIndexes) {
  const TempFolder folder;
  for (const std::string text : {"", "{", "[]", "{}", R"({"weight_map": []})", R"({"weight_map": {"x": 1}})"}) {
    put_file(folder / kIndexFile, text);
    EXPECT_TRUE(contains(error_of([&] { Checkpoint::open(folder.path()); }), kIndexFile)) << text;
  }
}

TEST(WriteSharded, RefusesToMixLayouts) {
  const TempFolder folder;
  write_sharded(folder.path(), ten_tensors(), 1000);
  const std::map<std::string, std::string> before = contents(folder);
  for (const uint64_t limit : {4000, 2000}) {
    EXPECT_TRUE(
        contains(error_of([&] { write_sharded(folder.path(), ten_tensors(), limit); }), "already holds other weights"));
  }
  EXPECT_EQ(contents(folder), before);
}

TEST(WriteSharded, LeavesWhatExistedAloneWhenTheDiskIsFull) {
  const TempFolder folder;
  write_sharded(folder.path(), ten_tensors(), 1000);
  const std::map<std::string, std::string> before = contents(folder);
  Tensors larger = ten_tensors();
  larger["layer.9.weight"] = at::randn({12, 12});  // the same layout, but the last shard is larger
  {
    const FileSizeLimit limit(1100);
    EXPECT_EQ(error_of([&] { write_sharded(folder.path(), larger, 1000); }),
              (folder / "model-00005-of-00005.safetensors").string() + ": cannot write: File too large");
  }
  EXPECT_EQ(contents(folder), before);
}

}  // namespace
}  // namespace retrosparse
