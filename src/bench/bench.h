#pragma once
#include <functional>
#include <nlohmann/json.hpp>

#include "bench/layer_shape.h"

namespace retrosparse::bench {

struct Settings {
  std::vector<LayerShape> shapes;
  std::vector<int64_t> lengths;        ///< tokens in the cache, or of the prompt
  std::vector<int64_t> batches = {1};  ///< decode and select
  double far_tiles = 0.15;             ///< prefill: the share of the far tiles that are to be computed at most
  int runs = 15;                       ///< fewer where a run takes long
};

/// A line of a result: strings and numbers by name; times in milliseconds (prefill) or microseconds (the others).
using Line = nlohmann::ordered_json;
using OnLine = std::function<void(const Line&)>;

// Each measures all shapes, lengths and batches on the current GPU, random data, against scaled_dot_product_attention
// with its FlashAttention-2 and cuDNN backends in the same run, and hands over line after line.
void bench_prefill(const Settings& settings, const OnLine& on_line);
void bench_decode(const Settings& settings, const OnLine& on_line);
void bench_select(const Settings& settings, const OnLine& on_line);

/// Name, driver and memory of the GPU, versions of CUDA and torch, and the bandwidth of a device copy (TB/s, bytes read
/// and written).
Line describe_machine();

}  // namespace retrosparse::bench
