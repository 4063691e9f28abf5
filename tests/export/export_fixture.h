#pragma once
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <string>

#include "base/testing.h"
#include "checkpoint/checkpoint.h"
#include "export/export_model.h"
#include "export/tiny_conversion.h"

namespace retrosparse {

/// A small source checkpoint in bfloat16, and a conversion of it.
class ExportTest : public testing::Test {
 protected:
  void SetUp() override { write_source(tiny_config()); }

  void write_source(const nlohmann::json& config) {
    std::filesystem::remove_all(source_);
    std::filesystem::create_directories(source_);
    write_config(source_, config);
    config_ = ModelConfig::read(source_);
    std::map<std::string, at::Tensor> tensors;
    for (const auto& [name, tensor] : random_tensors_for(config_)) {
      tensors[name] = tensor.to(at::kBFloat16);
    }
    write_safetensors(source_ / "model.safetensors", tensors);
    converted_ = tiny_conversion(config_);
  }

  void export_to(const std::filesystem::path& out, const ExportOptions& options = {},
                 const ModelWeights* weights = nullptr) {
    export_model({Checkpoint::open(source_), config_, converted_, weights}, out, options);
  }

  TempFolder folder_;
  std::filesystem::path source_ = folder_ / "source", out_ = folder_ / "out";
  ModelConfig config_;
  ConvertedModel converted_;
};

/// Bit-equal indexers and the same settings.
inline void expect_same_index(const ConvertedModel& a, const ConvertedModel& b) {
  const auto a_tensors = a.sparse.indexer.named_tensors(), b_tensors = b.sparse.indexer.named_tensors();
  ASSERT_EQ(a_tensors.size(), b_tensors.size());
  for (const auto& [name, tensor] : a_tensors) {
    EXPECT_TRUE(at::equal(tensor, b_tensors.at(name))) << name;
  }
  EXPECT_EQ(settings_json(a), settings_json(b));
}

}  // namespace retrosparse
