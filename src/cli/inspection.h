#pragma once
#include <cstdint>
#include <filesystem>
#include <map>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "checkpoint/checkpoint.h"
#include "export/settings_json.h"
#include "model/config.h"
#include "model/tensor_match.h"
#include "plan/parameters.h"

namespace retrosparse::cli {

/// What `inspect` finds out about a checkpoint folder, or about a config.json alone.
struct Inspection {
  struct Total {
    int64_t tensors = 0;
    uint64_t bytes = 0;
  };

  ModelConfig config;
  ParameterCounts parameters;                ///< that the configuration asks for
  std::optional<Checkpoint> checkpoint;      ///< none where there are no weights
  std::string no_weights;                    ///< then: why
  std::map<std::string, Total> dtypes;       ///< stored tensors by dtype ("BF16")
  std::map<std::string, Total> files;        ///< and by file
  std::vector<std::string> tied_storage;     ///< under which names a tied embedding is stored
  TensorMatch match;                         ///< empty where there are no weights
  std::optional<ConvertedModel> conversion;  ///< of a converted model: its settings, and the shapes of its index

  /// What of a tokenizer there is: "byte-level BPE, 4096 tokens", or why none can be used.
  std::string tokenizer;

  /// Error where the weights are there and the model cannot be loaded from them.
  void check() const;
};

/// Reads config.json and the headers of the weights. Error: either of them is broken. Tensors that do not fit the
/// configuration are no Error here, but in check().
Inspection inspect_model(const std::filesystem::path& path);

std::string rope_type_name(RopeType type);

/// The same as the text shows; `tensors`: and every stored tensor.
nlohmann::ordered_json to_json(const Inspection& inspection, bool tensors);

}  // namespace retrosparse::cli
