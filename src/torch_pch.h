#pragma once
// Precompiled for every target that uses libtorch. ATen/ATen.h costs 10 s a file without it, torch/torch.h 18-32 s.
#include <ATen/ATen.h>
