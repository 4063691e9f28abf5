#pragma once
#include <ATen/core/Tensor.h>

#include "model/attend.h"
#include "sparse/selection.h"

namespace retrosparse {

/// Exact attention of n queries [n, R, D] over the keys [S, K, D] that they picked; group_of_head int64 [R]: the key
/// head that each reads. A row without picks has lse = -inf and out = 0. Float32 on the CPU
/// reads the keys where they are; otherwise they are gathered, some rows at a time.
PartialAttention attend_picked(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, double scale,
                               const at::Tensor& group_of_head, const PickedTokens& picked);

}  // namespace retrosparse
