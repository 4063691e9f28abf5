#include "model/config_refusals.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/error.h"

namespace retrosparse {
namespace {

void refuse_quantisation(const JsonObject& json) {
  if (json.has("quantization_config")) {
    const JsonObject quantization = json.object("quantization_config");
    throw json.error("quantization_config", "quantised checkpoints are not supported")
        .found(quantization.get_or<std::string>("quant_method", "an unnamed method"))
        .hint("convert from the checkpoint in bfloat16, float16 or float32");
  }
}

void refuse_layer_types(const JsonObject& json, int64_t num_hidden_layers) {
  const auto types = json.get_or<std::vector<std::string>>("layer_types", {});
  if (json.has("layer_types") && static_cast<int64_t>(types.size()) != num_hidden_layers) {
    throw json.error("layer_types", "another number of layers than num_hidden_layers")
        .expected(std::to_string(num_hidden_layers))
        .found(std::to_string(types.size()));
  }
  const auto other = std::ranges::find_if(types, [](const std::string& type) { return type != "full_attention"; });
  if (other != types.end()) {
    throw json.error("layer_types", "a model with layers of another kind than full attention is not supported")
        .expected("full_attention in every layer")
        .found(*other);
  }
}

// Whether all layers are spared by the sliding window that config.json asks for. What layer_types may say has been
// looked at: full attention.
bool windows_no_layer(const JsonObject& json, const ConfigReader& reader, const Family& family,
                      int64_t num_hidden_layers) {
  if (!family.sliding_window_by_layer) {
    return false;
  }
  const bool by_number = reader.default_of("max_window_layers").has_value();
  return json.has("layer_types") ||
         (by_number &&
          num_hidden_layers <= reader.integer("max_window_layers", 0, std::numeric_limits<int64_t>::max()));
}

void refuse_sliding_window(const JsonObject& json, const ConfigReader& reader, const Family& family,
                           int64_t num_hidden_layers) {
  const bool stated = json.raw().contains("sliding_window");
  const bool slides = stated ? json.has("sliding_window") : reader.default_of("sliding_window").has_value();
  if (reader.feature(family.sliding_window) && slides && !windows_no_layer(json, reader, family, num_hidden_layers)) {
    throw json.error("sliding_window", "a model with a sliding window of its own is not supported")
        .expected("null")
        .found(stated
                   ? std::to_string(json.get<int64_t>("sliding_window"))
                   : fmt::format("nothing, for which transformers assumes {}", *reader.default_of("sliding_window")));
  }
}

void refuse_activation(const JsonObject& json) {
  const auto activation = json.get_or<std::string>("hidden_act", "silu");
  if (activation != "silu" && activation != "swish") {  // two names of one function
    throw json.error("hidden_act", "unsupported activation").expected("silu").found(activation);
  }
}

}  // namespace

void refuse_what_is_not_run(const JsonObject& json, const ConfigReader& reader, const Family& family) {
  refuse_quantisation(json);
  const int64_t num_hidden_layers = reader.integer("num_hidden_layers", 1, 4096);
  refuse_layer_types(json, num_hidden_layers);
  refuse_sliding_window(json, reader, family, num_hidden_layers);
  refuse_activation(json);
}

}  // namespace retrosparse
