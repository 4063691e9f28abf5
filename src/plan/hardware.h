#pragma once
#include <string>
#include <vector>

namespace retrosparse {

/// What a GPU's datasheet promises; see configs/hardware/gpus.yaml.
struct Gpu {
  std::string name;
  double memory_bytes = 0;
  double bytes_per_second = 0;       ///< memory bandwidth
  double bf16_flops_per_second = 0;  ///< bfloat16 and float16 on the tensor cores, dense
  double fp32_flops_per_second = 0;
  std::string source;
  double compute_capability = 0;
};

/// The GPUs that are compiled in, in the order of the file.
const std::vector<Gpu>& known_gpus();

/// Parses such a file; `name` is used in errors. Throws Error for unknown and missing keys and for values that are not
/// above 0.
std::vector<Gpu> parse_gpus(const std::string& yaml, const std::string& name);

}  // namespace retrosparse
