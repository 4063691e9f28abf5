#pragma once
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>

#include "export/settings_json.h"
#include "model/attention.h"
#include "model/config.h"
#include "sparse/sparse_attention.h"

namespace CLI {
class App;
}

namespace retrosparse::cli {

/// What the heads of a model see.
struct AttentionOptions {
  std::string mode;  ///< dense, plan, sparse; empty: sparse for a converted model, else dense
  std::optional<std::string> adapter;
  std::optional<int64_t> window;
  int64_t sink_tokens = 4;
  std::optional<std::string> dense_heads;
};

/// --attention, --adapter, --window, --sink-tokens and --dense-heads.
void add_attention_options(CLI::App& command, AttentionOptions& options);

/// The attention that the options ask for, with all that it refers to.
class ChosenAttention {
 public:
  /// `folder`: the model's. Rows from `sparse_from` on are sparse where the attention is. Error: options that do not
  /// fit this model; a head plan, an index or an adapter that is broken or belongs to another model.
  ChosenAttention(const AttentionOptions& options, const std::filesystem::path& folder, const ModelConfig& config,
                  at::Device device, int64_t sparse_from);

  Attention& get() { return *attention_; }

  /// What sparse rows picked so far, all layers together; nothing for other attention.
  std::optional<SelectionCounts> counts() const;

 private:
  std::unique_ptr<const ConvertedModel> converted_;  // attention_ refers to it
  std::unique_ptr<Attention> attention_;
  const SparseAttention* sparse_ = nullptr;  // the same, where it is sparse
};

}  // namespace retrosparse::cli
