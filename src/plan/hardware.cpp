#include "plan/hardware.h"

#include <span>

#include "base/embedded.h"
#include "base/error.h"
#include "base/yaml.h"

namespace retrosparse {

std::span<const EmbeddedFile> builtin_hardware_files();  // generated from configs/hardware

namespace {

double positive(const YamlObject& yaml, const std::string& key) {
  const auto value = yaml.get<double>(key);
  if (!(value > 0)) {
    throw yaml.error(key, "out of range").expected("a number above 0");
  }
  return value;
}

}  // namespace

std::vector<Gpu> parse_gpus(const std::string& yaml, const std::string& name) {
  const YamlObject file = YamlObject::parse(yaml, name);
  std::vector<Gpu> gpus;
  for (const YamlObject& entry : file.list("gpus")) {
    Gpu gpu;
    gpu.name = entry.get<std::string>("name");
    gpu.memory_bytes = positive(entry, "memory_gb") * 1e9;
    gpu.bytes_per_second = positive(entry, "bandwidth_gb_s") * 1e9;
    gpu.bf16_flops_per_second = positive(entry, "bf16_tflops") * 1e12;
    gpu.fp32_flops_per_second = positive(entry, "fp32_tflops") * 1e12;
    gpu.compute_capability = positive(entry, "compute_capability");
    gpu.source = entry.get<std::string>("source");
    gpus.push_back(gpu);
  }
  file.finish();
  return gpus;
}

const std::vector<Gpu>& known_gpus() {
  static const std::vector<Gpu> gpus = [] {
    std::vector<Gpu> all;
    for (const EmbeddedFile& file : builtin_hardware_files()) {
      const auto of_file = parse_gpus(std::string(file.content), std::string(file.name) + ".yaml");
      all.insert(all.end(), of_file.begin(), of_file.end());
    }
    return all;
  }();
  return gpus;
}

}  // namespace retrosparse
