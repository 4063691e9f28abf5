#pragma once
#include <ATen/core/Tensor.h>

#include <string>
#include <vector>

namespace retrosparse::bench {

/// A backend of scaled_dot_product_attention.
struct Rival {
  std::string name;
  bool flash, cudnn;
};
const std::vector<Rival>& rivals();

/// Dense attention by that backend alone: q [batch, queries, heads, head_dim], k and v [batch, keys, KV heads,
/// head_dim]. c10::Error if the backend does not take these.
at::Tensor rival_attention(const Rival& rival, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                           bool causal);

}  // namespace retrosparse::bench
