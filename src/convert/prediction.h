#pragma once
#include <optional>
#include <string>

#include "convert/workspace.h"
#include "plan/conversion.h"

namespace retrosparse {

/// What a stage is going to cost on this machine, with the heads that `profile` found where it has run. Nothing where
/// the GPU is not in configs/hardware, or where several processes share the work.
std::optional<StageCost> predict_stage(const std::string& stage, const Workspace& workspace);

/// What a GPU calls itself, as "NVIDIA H200"; "cpu"; "cuda:0" where the driver does not say.
std::string device_name(at::Device device);

}  // namespace retrosparse
