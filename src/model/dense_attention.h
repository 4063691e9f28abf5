#pragma once
#include "model/attend.h"
#include "model/attention.h"

namespace retrosparse {

/// Full causal attention, every head: the model as it was trained.
class DenseAttention : public Attention {
 public:
  at::Tensor forward(const AttentionInput& input) override;
};

/// Full causal attention of T new queries [T, H, D] over S keys [S, K, D], the new tokens' last.
PartialAttention attend_dense(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, double scale);

}  // namespace retrosparse
