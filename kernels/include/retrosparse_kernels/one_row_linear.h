#pragma once
#include <cstdint>

namespace retrosparse::kernels::cpu {

/// y[n] = x . weight[n] + bias[n] for the outputs n in [begin, end): the product that decoding takes at every layer,
/// bound by reading the weights once. Outputs are independent, so that a caller may split them over threads.
///   x [in_features], weight [out_features, in_features], bias [out_features] or null, y [out_features]; contiguous
void one_row_linear(const float* x, const float* weight, const float* bias, int64_t in_features, int64_t begin,
                    int64_t end, float* y);

}  // namespace retrosparse::kernels::cpu
