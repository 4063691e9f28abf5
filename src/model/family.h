#pragma once
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace retrosparse {

/// A boolean that a family fixes, or leaves to a key of config.json (false where that key is absent).
struct Feature {
  bool value = false;
  std::string config_key;  ///< decides when not empty
};

/// Names of a layer's tensors in the checkpoint; "{layer}" and "{expert}" stand for the indices. An empty name: the
/// family has no such tensor.
struct LayerTensors {
  std::string input_norm, post_attention_norm;
  std::string q_proj, k_proj, v_proj, o_proj;  ///< ".weight" and ".bias" follow
  std::string q_norm, k_norm;
  std::string gate_proj, up_proj, down_proj;
  std::string router, expert_gate_proj, expert_up_proj, expert_down_proj;
  std::string fused_expert_gate_up, fused_expert_down;  ///< all experts of a layer stacked, the other way to store them
};

/// The name with an index in place of a placeholder ("{layer}", "{expert}"); unchanged where it has none.
std::string substitute(std::string name, std::string_view placeholder, int64_t index);

/// What RetroSparse puts before the architecture of a model that it converted: RetroSparseQwen3ForCausalLM.
inline constexpr char kConvertedPrefix[] = "RetroSparse";

/// A model family as data: configs/<name>.yaml, compiled into the program. Adding one is adding a file.
struct Family {
  std::string name;
  std::vector<std::string> architectures;  ///< values of config.json's "architectures"
  std::string model_type;                  ///< value of "model_type", which counts where "architectures" is missing
  std::string source;                      ///< where its facts come from

  /// canonical name -> names that it goes by in config.json, in the order they are tried; absent: the name itself.
  std::map<std::string, std::vector<std::string>> config_keys;
  /// canonical name -> value where config.json is silent.
  std::map<std::string, double> defaults;

  Feature qkv_bias, output_bias, mlp_bias;
  bool qk_norm = false;
  bool experts = false;

  Feature sliding_window;  ///< of the model's own: refused where the feature is on and the key sliding_window not null
  /// Whether layer_types, or else max_window_layers where that has a default, says which layers the window is for; if
  /// not, it is for all.
  bool sliding_window_by_layer = false;

  std::string embed_tokens, final_norm, lm_head;
  std::string optional_prefix;  ///< of tensor names, which checkpoints of the base model lack
  LayerTensors layer;
  std::vector<std::string> ignored_tensors;  ///< suffixes of tensors that may be there and are not needed

  /// The family of an architecture, converted or not, or nullptr.
  static const Family* of_architecture(std::string_view architecture);

  /// All built-in families, by name.
  static const std::vector<Family>& all();

  /// Parses one file; `name` is used in errors. Where the file names one of `bases` as its `base`, it says only what
  /// differs from that. Throws Error for unknown keys, missing ones and an unknown base.
  static Family parse(const std::string& yaml, const std::string& name, const std::vector<Family>& bases = {});
};

}  // namespace retrosparse
