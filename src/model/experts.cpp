#include "model/experts.h"

#include <ATen/ops/_grouped_mm.h>
#include <ATen/ops/bincount.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/silu.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/topk.h>

#include <vector>

namespace retrosparse {
namespace {

// silu(gate) * up of gate_up [.., 2 * I], gate first.
at::Tensor gated_silu(const at::Tensor& gate_up) {
  const std::vector<at::Tensor> halves = gate_up.chunk(2, -1);
  return at::silu(halves[0]).mul(halves[1]);
}

// rows [N, in] sorted by expert, counts int64 [E] on the CPU, stacked weights [E, out, in] -> [N, out].
at::Tensor product_per_expert(const at::Tensor& rows, const at::Tensor& counts, const at::Tensor& stacked) {
  std::vector<at::Tensor> products;
  int64_t begin = 0;
  for (int64_t expert = 0; expert < counts.numel(); ++expert) {
    const int64_t count = counts.const_data_ptr<int64_t>()[expert];
    if (count > 0) {
      products.push_back(at::linear(rows.narrow(0, begin, count), stacked.select(0, expert)));
      begin += count;
    }
  }
  return at::cat(products);
}

}  // namespace

at::Tensor experts_forward(const at::Tensor& x, const LayerWeights& weights, const ExpertsConfig& config) {
  const int64_t picks = config.num_experts_per_tok;
  const at::Tensor probabilities = at::softmax(at::linear(x, weights.router), -1, at::kFloat);
  auto [share, expert] = at::topk(probabilities, picks, -1);  // [T, picks] each
  if (config.normalize_top_k) {
    share = share / share.sum(-1, /*keepdim=*/true);
  }
  const at::Tensor flat_expert = expert.flatten();
  const at::Tensor order = flat_expert.argsort(/*stable=*/true, /*dim=*/0, /*descending=*/false);
  const at::Tensor rows = x.index_select(0, order.floor_divide(picks));
  const at::Tensor counts = at::bincount(flat_expert, {}, config.num_experts);
  at::Tensor out;  // [T * picks, hidden], sorted by expert
  // The grouped product wants rows that start at multiples of 16 bytes.
  const bool aligned = x.size(1) % 8 == 0 && config.intermediate_size % 8 == 0;
  if (x.is_cuda() && x.scalar_type() == at::kBFloat16 && aligned) {
    const at::Tensor ends = counts.cumsum(0).to(at::kInt);
    const at::Tensor hidden = gated_silu(at::_grouped_mm(rows, weights.expert_gate_up.transpose(1, 2), ends));
    out = at::_grouped_mm(hidden, weights.expert_down.transpose(1, 2), ends);
  } else {
    const at::Tensor counts_on_cpu = counts.cpu();
    const at::Tensor hidden = gated_silu(product_per_expert(rows, counts_on_cpu, weights.expert_gate_up));
    out = product_per_expert(hidden, counts_on_cpu, weights.expert_down);
  }
  // Back to token order by a gather: index_add would sum in a different order on every run on a GPU.
  const at::Tensor by_token = out.index_select(0, order.argsort()).unflatten(0, {x.size(0), picks});
  return (by_token * share.unsqueeze(-1)).sum(1).to(x.scalar_type());
}

at::Tensor mlp_forward(const at::Tensor& x, const LayerWeights& weights) {
  return weights.down(gated_silu(weights.gate_up(x)));
}

}  // namespace retrosparse
