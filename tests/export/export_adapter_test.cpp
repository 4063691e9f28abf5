#include "export/export_adapter.h"

#include "base/file.h"
#include "export/base_identity.h"
#include "export/export_fixture.h"
#include "export/load_converted.h"

namespace retrosparse {
namespace {

namespace fs = std::filesystem;

class Adapter : public ExportTest {
 protected:
  void SetUp() override {
    ExportTest::SetUp();
    export_adapter({Checkpoint::open(source_), config_, converted_}, out_);
  }

  // Rewrites the adapter's tensors after a change.
  template <typename Change>
  std::string error_after(Change&& change) {
    std::map<std::string, at::Tensor> tensors = converted_.sparse.indexer.named_tensors();
    change(tensors);
    write_safetensors(out_ / kAdapterTensors, tensors);
    return error_of([&] { load_converted(out_, config_, at::kCPU); });
  }
};

TEST_F(Adapter, HoldsTheIndexAndNothingElse) {
  EXPECT_EQ(SafetensorsFile(out_ / kAdapterTensors).tensors().size(), 8u);
  expect_same_index(load_converted(out_, config_, at::kCPU), converted_);
  EXPECT_TRUE(contains(read_text(out_ / "README.md"), base_identity(Checkpoint::open(source_))));
}

TEST_F(Adapter, KnowsItsCheckpoint) {
  EXPECT_NO_THROW(check_adapter_base(out_, Checkpoint::open(source_)));
  std::map<std::string, at::Tensor> tensors;
  const Checkpoint source = Checkpoint::open(source_);
  for (const std::string& name : source.names()) {
    tensors[name] = source.tensor(name).clone();
  }
  fs::create_directories(folder_ / "shards");
  fs::copy_file(source_ / "config.json", folder_ / "shards" / "config.json");
  write_sharded(folder_ / "shards", tensors, 5000);
  EXPECT_NO_THROW(check_adapter_base(out_, Checkpoint::open(folder_ / "shards")));

  tensors.at("model.layers.1.mlp.up_proj.weight")[0][0] += 0.5;  // a fine-tune: other values, the same shapes
  fs::create_directories(folder_ / "tuned");
  fs::copy_file(source_ / "config.json", folder_ / "tuned" / "config.json");
  write_sharded(folder_ / "tuned", tensors, 1 << 30);
  EXPECT_TRUE(contains(error_of([&] { check_adapter_base(out_, Checkpoint::open(folder_ / "tuned")); }),
                       "made for another checkpoint"));
}

TEST_F(Adapter, RefusesTensorsThatDoNotFit) {
  using Tensors = std::map<std::string, at::Tensor>;
  const std::string gate = "model.layers.2.self_attn.indexer.gate.bias";
  EXPECT_TRUE(contains(error_after([&](Tensors& t) { t.erase(gate); }), "tensor '" + gate + "': missing"));
  EXPECT_TRUE(contains(error_after([&](Tensors& t) { t[gate] = at::zeros({2}); }), "expected [3], found [2]"));
  EXPECT_TRUE(contains(error_after([&](Tensors& t) { t[gate] = at::full({3}, NAN); }), "expected finite numbers"));
  EXPECT_TRUE(contains(error_after([&](Tensors& t) { t[gate] = at::zeros({3}, at::kInt); }), "floating-point"));
  EXPECT_TRUE(
      contains(error_after([&](Tensors& t) { t["model.layers.1.self_attn.indexer.gate.bias"] = at::zeros({3}); }),
               "a layer without retrieval heads"));
}

TEST_F(Adapter, RefusesBrokenFiles) {
  const auto load = [&] { load_converted(out_, config_, at::kCPU); };
  const std::string tensors = read_text(out_ / kAdapterTensors);
  put_file(out_ / kAdapterTensors, tensors.substr(0, tensors.size() - 1));
  EXPECT_TRUE(contains(error_of(load), kAdapterTensors));
  fs::remove(out_ / kAdapterTensors);
  EXPECT_TRUE(contains(error_of(load), kAdapterTensors));
  put_file(out_ / kAdapterSettings, "{");
  EXPECT_TRUE(contains(error_of(load), kAdapterSettings));
  EXPECT_TRUE(contains(error_of([&] { load_converted(source_, config_, at::kCPU); }), "not a converted model"));
}

}  // namespace
}  // namespace retrosparse
