#include "convert/prediction.h"

#include <algorithm>
#include <filesystem>

#include "convert/artifacts.h"

#ifdef RETROSPARSE_WITH_CUDA
#include <cuda_runtime_api.h>
#endif

namespace retrosparse {
namespace {

// The entry of the table whose name the GPU's own ("NVIDIA H100 PCIe") contains; the longest, should several.
const Gpu* gpu_of(at::Device device) {
  const Gpu* found = nullptr;
  const std::string own_name = device_name(device);
  for (const Gpu& gpu : known_gpus()) {
    if (own_name.find(gpu.name) != own_name.npos && (found == nullptr || gpu.name.size() > found->name.size())) {
      found = &gpu;
    }
  }
  return found;
}

std::optional<Machine> machine_of_run(const ConversionOptions& options) {
  if (options.device.is_cpu()) {
    static const Machine cpu = this_cpu();  // measured once
    return cpu;
  }
  const Gpu* gpu = gpu_of(options.device);
  return gpu == nullptr ? std::nullopt
                        : std::optional(machine_of(*gpu, static_cast<double>(c10::elementSize(options.dtype))));
}

}  // namespace

std::string device_name(at::Device device) {
#ifdef RETROSPARSE_WITH_CUDA
  cudaDeviceProp properties;
  if (device.is_cuda() && cudaGetDeviceProperties(&properties, device.index()) == cudaSuccess) {
    return properties.name;
  }
#endif
  return device.str();
}

std::optional<StageCost> predict_stage(const std::string& stage, const Workspace& workspace) {
  const ConversionOptions& options = workspace.options();
  const auto machine = machine_of_run(options);
  if (!machine || workspace.group().world_size() > 1) {
    return std::nullopt;
  }
  const bool profiled = stage != "profile" && std::filesystem::exists(workspace.folder("profile") / "head_plan.json");
  const ConversionPlan plan{
      .config = workspace.config(),
      .recipe = options.recipe,
      .element_size = static_cast<double>(c10::elementSize(options.dtype)),
      .prefill_chunk = options.prefill_chunk,
      .machine = *machine,
      .retrieval_heads =
          profiled ? read_head_plan(workspace).retrieval_heads : assumed_heads(workspace.config(), options.recipe.plan),
  };
  const std::vector<StageCost> stages = plan_conversion(plan);
  const auto found = std::ranges::find(stages, stage, &StageCost::name);
  return found == stages.end() ? std::nullopt : std::optional(*found);
}

}  // namespace retrosparse
