#include "cli/attention_options.h"

#include <CLI/App.hpp>

#include "base/error.h"
#include "checkpoint/checkpoint.h"
#include "cli/arguments.h"
#include "cli/common.h"
#include "cli/options.h"
#include "export/export_adapter.h"
#include "export/load_converted.h"
#include "model/dense_attention.h"
#include "model/planned_attention.h"

namespace retrosparse::cli {
namespace {

constexpr int64_t kMostTokens = int64_t{1} << 30;

// Every head sees sinks and window, but for the heads that are named.
std::unique_ptr<Attention> local_attention(const AttentionOptions& options, const ModelConfig& config,
                                           at::Device device) {
  const HeadWindows local(static_cast<size_t>(config.num_attention_heads),
                          LocalWindow{options.sink_tokens, *options.window});
  std::vector<HeadWindows> windows(static_cast<size_t>(config.num_hidden_layers), local);
  if (options.dense_heads) {
    for (const auto& [layer, head] :
         parse_heads(*options.dense_heads, config.num_hidden_layers, config.num_attention_heads)) {
      windows[static_cast<size_t>(layer)][static_cast<size_t>(head)].reset();
    }
  }
  return std::make_unique<PlannedAttention>(windows, config.num_key_value_heads, device);
}

// Null for a model that was never converted.
std::unique_ptr<const ConvertedModel> read_conversion(const AttentionOptions& options,
                                                      const std::filesystem::path& folder, const ModelConfig& config,
                                                      at::Device device) {
  if (options.adapter) {
    check_adapter_base(*options.adapter, Checkpoint::open(folder));
    return std::make_unique<const ConvertedModel>(load_converted(*options.adapter, config, device));
  }
  if (config.is_converted()) {
    return std::make_unique<const ConvertedModel>(load_converted(folder, config, device));
  }
  return nullptr;
}

}  // namespace

ChosenAttention::ChosenAttention(const AttentionOptions& options, const std::filesystem::path& folder,
                                 const ModelConfig& config, at::Device device, int64_t sparse_from)
    : converted_(read_conversion(options, folder, config, device)) {
  if (options.window) {
    if (converted_ != nullptr) {
      throw UsageError("--window: this model has a head plan of its own (--attention dense, plan or sparse)");
    }
    attention_ = local_attention(options, config, device);
    return;
  }
  const std::string fallback = converted_ != nullptr ? "sparse" : "dense";
  const std::string mode = options.mode.empty() ? fallback : options.mode;
  if (mode == "dense") {
    attention_ = std::make_unique<DenseAttention>();
    return;
  }
  if (converted_ == nullptr) {
    throw Error("--attention " + mode + ": not a converted model")
        .file(folder.string())
        .hint("name an --adapter that was made for it");
  }
  const SparseModel& sparse_model = converted_->sparse;
  if (mode == "plan") {
    attention_ =
        std::make_unique<PlannedAttention>(sparse_model.plan.windows(), sparse_model.plan.num_key_value_heads, device);
    return;
  }
  auto sparse = std::make_unique<SparseAttention>(sparse_model);
  sparse->set_sparse_from(sparse_from);
  sparse_ = sparse.get();
  attention_ = std::move(sparse);
}

std::optional<SelectionCounts> ChosenAttention::counts() const {
  if (sparse_ == nullptr) {
    return std::nullopt;
  }
  return total(sparse_->counts());
}

void add_attention_options(CLI::App& command, AttentionOptions& options) {
  auto* mode = command.add_option("--attention", options.mode,
                                  "of a converted model: sparse (the default), plan (retrieval heads see everything), "
                                  "or dense");
  mode->type_name("KIND")->check(CLI::IsMember({"dense", "plan", "sparse"}).description(""));
  auto* adapter = command.add_option("--adapter", options.adapter, "convert the model by this adapter");
  adapter->type_name("DIR");
  auto* window = command.add_option("--window", options.window,
                                    "local attention: each head sees this many latest tokens and the sinks");
  window->type_name("N")->check(between<int64_t>(1, kMostTokens))->excludes(mode)->excludes(adapter);
  command.add_option("--sink-tokens", options.sink_tokens, "first tokens that local heads see")
      ->capture_default_str()
      ->type_name("N")
      ->check(between<int64_t>(0, kMostTokens))
      ->needs(window);
  command.add_option("--dense-heads", options.dense_heads, "heads that see everything, as 5.0,5.2,...: layer.head")
      ->type_name("LIST")
      ->needs(window);
}

}  // namespace retrosparse::cli
