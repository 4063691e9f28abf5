#pragma once
// Precompiled for every target that uses libtorch. ATen/ATen.h costs 10 s a file without it, torch/torch.h 18-32 s,
// json.hpp 2 s.
#include <ATen/ATen.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <nlohmann/json.hpp>
