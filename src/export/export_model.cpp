#include "export/export_model.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "base/error.h"
#include "base/file.h"
#include "checkpoint/safetensors_writer.h"
#include "export/exported_files.h"
#include "export/model_card.h"
#include "export/output_folder.h"
#include "model/tensor_match.h"

namespace retrosparse {

namespace {

namespace fs = std::filesystem;

void copy_small_files(const fs::path& source, const fs::path& out) {
  for (const fs::directory_entry& entry : fs::directory_iterator(source)) {
    const std::string name = entry.path().filename().string();
    if (entry.is_regular_file() && is_copied(name)) {
      write_atomically(out / name, read_text(entry.path()));
    }
  }
}

// "Qwen3ForCausalLM", of a checkpoint that was converted before as well.
std::string base_architecture(const ModelConfig& config) {
  return config.is_converted() ? config.architecture.substr(std::string_view(kConvertedPrefix).size())
                               : config.architecture;
}

void write_config(const ExportInput& input, const fs::path& out) {
  const fs::path path = input.source.dir() / "config.json";
  nlohmann::ordered_json config;
  try {
    config = nlohmann::ordered_json::parse(read_text(path));
  } catch (const nlohmann::json::parse_error& error) {
    throw Error(fmt::format("not json: {}", error.what())).file(path.string());
  }
  constexpr std::string_view kSuffix = "ForCausalLM";
  const std::string base = base_architecture(input.config), architecture = kConvertedPrefix + base;
  const std::string config_class = architecture.substr(0, architecture.size() - kSuffix.size()) + "Config";
  const bool has_class = std::ranges::any_of(builtin_engine_files(), [&](const EmbeddedFile& file) {
    return file.content.find("class " + architecture + "(") != file.content.npos;
  });
  if (!has_class) {
    throw std::logic_error("engines/transformers has no class " + architecture);
  }
  config["architectures"] = nlohmann::ordered_json::array({architecture});
  config["model_type"] = "retrosparse_" + input.config.family->name;
  config["auto_map"] = {{"AutoConfig", "configuration_retrosparse." + config_class},
                        {"AutoModelForCausalLM", "modeling_retrosparse." + architecture}};
  if (!input.config.tie_word_embeddings && config.contains("tie_word_embeddings") &&
      config["tie_word_embeddings"] == true) {
    config["tie_word_embeddings"] = false;  // the source has both tables and they differ
  }
  config["retrosparse"] = settings_json(input.converted);
  write_atomically(out / "config.json", config.dump(2) + "\n");
}

std::map<std::string, at::Tensor> tensors_to_write(const ExportInput& input) {
  std::map<std::string, at::Tensor> tensors;
  if (input.weights != nullptr) {
    tensors = tensors_as_stored(input.source, input.config, *input.weights);
  } else {
    const TensorMatch match = match_tensors(input.source, input.config);
    match.check(input.source);
    for (const auto& [name, stored_name] : match.stored_as) {
      tensors.emplace(name, input.source.tensor(stored_name));
    }
  }
  tensors.merge(input.converted.sparse.indexer.named_tensors());
  return tensors;
}

}  // namespace

void export_model(const ExportInput& given, const fs::path& out, const ExportOptions& options) {
  ModelConfig config = given.config;
  config.tie_word_embeddings = embeddings_are_tied(given.source, config);  // as when the model is loaded
  const ExportInput input{given.source, config, given.converted, given.weights};
  AtomicFolder folder = open_output_folder(out, input.source.dir(), options.replace);
  write_sharded(folder.staging(), tensors_to_write(input), options.max_shard_bytes);
  copy_small_files(input.source.dir(), folder.staging());
  for (const EmbeddedFile& file : builtin_engine_files()) {
    write_atomically(folder.staging() / (std::string(file.name) + ".py"), file.content);
  }
  write_atomically(folder.staging() / "README.md", model_card(input));
  write_config(input, folder.staging());
  folder.commit();
}

}  // namespace retrosparse
