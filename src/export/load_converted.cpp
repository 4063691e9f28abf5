#include "export/load_converted.h"

#include <ATen/ops/isfinite.h>
#include <fmt/format.h>

#include <map>
#include <string>
#include <string_view>

#include "base/error.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/safetensors.h"
#include "checkpoint/tensor_info.h"

namespace retrosparse {
namespace {

constexpr std::string_view kIndexPart = ".self_attn.indexer.";

// Copies stored tensors into the indexer and checks that they are all that it needs and no more.
void load_index(const std::map<std::string, at::Tensor>& stored, const std::string& file, Indexer& indexer) {
  const std::map<std::string, at::Tensor> needed = indexer.named_tensors();
  for (const auto& [name, tensor] : stored) {
    if (!needed.contains(name)) {
      throw Error("an index tensor of a layer without retrieval heads").file(file).tensor(name);
    }
    if (!at::isFloatingType(tensor.scalar_type())) {
      throw Error("not an index tensor")
          .file(file)
          .tensor(name)
          .expected("floating-point numbers")
          .found(std::string(*dtype_name(tensor.scalar_type())));
    }
    if (!at::isfinite(tensor.to(at::kFloat)).all().item<bool>()) {
      throw Error("not an index tensor").file(file).tensor(name).expected("finite numbers").found("NaN or infinity");
    }
  }
  try {
    indexer.load(stored);
  } catch (Error& error) {
    throw error.file(file);
  }
}

ConvertedModel load_adapter(const std::filesystem::path& folder, const ModelConfig& config, at::Device device) {
  const JsonObject json = JsonObject::read(folder / kAdapterSettings);
  ConvertedModel model = parse_settings(json.object("retrosparse"), config, device);
  const SafetensorsFile file(folder / kAdapterTensors);
  std::map<std::string, at::Tensor> stored;
  for (const auto& [name, info] : file.tensors()) {
    stored.emplace(name, file.tensor(name));
  }
  load_index(stored, file.path().string(), model.sparse.indexer);
  return model;
}

JsonObject settings_of(const std::filesystem::path& config_json) {
  const JsonObject json = JsonObject::read(config_json);
  if (!json.has("retrosparse")) {
    throw json.error("retrosparse", "not a converted model: the key is missing");
  }
  return json.object("retrosparse");
}

}  // namespace

ConvertedModel load_converted(const std::filesystem::path& folder, const ModelConfig& config, at::Device device) {
  std::error_code ignored;
  if (std::filesystem::exists(folder / kAdapterSettings, ignored)) {
    return load_adapter(folder, config, device);
  }
  ConvertedModel model = parse_settings(settings_of(folder / "config.json"), config, device);
  const Checkpoint checkpoint = Checkpoint::open(folder);
  std::map<std::string, at::Tensor> stored;
  for (const std::string& name : checkpoint.names()) {
    if (name.find(kIndexPart) != std::string::npos) {
      stored.emplace(name, checkpoint.tensor(name));
    }
  }
  load_index(stored, folder.string(), model.sparse.indexer);
  return model;
}

ConvertedModel read_settings(const std::filesystem::path& path, const ModelConfig& config) {
  std::error_code ignored;
  const bool folder = std::filesystem::is_directory(path, ignored);
  return parse_settings(settings_of(folder ? path / "config.json" : path), config, at::kMeta);
}

void match_index(const Checkpoint& checkpoint, const Indexer& indexer, TensorMatch& match) {
  const std::map<std::string, at::Tensor> needed = indexer.named_tensors();
  for (const auto& [name, tensor] : needed) {
    if (!checkpoint.has(name)) {
      match.missing.push_back(name);
      continue;
    }
    match.stored_as[name] = name;
    const TensorInfo& info = checkpoint.info(name);
    if (at::IntArrayRef(info.shape) != tensor.sizes() || !at::isFloatingType(info.dtype)) {
      match.wrong.push_back(Error("not the index tensor of this head plan")
                                .file((checkpoint.dir() / checkpoint.file_of(name)).string())
                                .tensor(name)
                                .expected("floating-point numbers " + shape_text(tensor.sizes()))
                                .found(fmt::format("{} {}", *dtype_name(info.dtype), shape_text(info.shape))));
    }
  }
  for (const std::string& name : checkpoint.names()) {
    if (name.find(kIndexPart) != std::string::npos && !needed.contains(name)) {
      match.surplus.push_back(name);
    }
  }
}

}  // namespace retrosparse
