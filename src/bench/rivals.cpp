#include "bench/rivals.h"

#include <ATen/ATen.h>
#include <ATen/Context.h>

namespace retrosparse::bench {

const std::vector<Rival>& rivals() {
  static const std::vector<Rival> kRivals = {{"fa2", true, false}, {"cudnn", false, true}};
  return kRivals;
}

at::Tensor rival_attention(const Rival& rival, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                           bool causal) {
  at::Context& context = at::globalContext();
  context.setSDPUseFlash(rival.flash);
  context.setSDPUseCuDNN(rival.cudnn);
  context.setSDPUseMemEfficient(false);
  context.setSDPUseMath(false);
  return at::scaled_dot_product_attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), {}, 0.0, causal, {},
                                          /*enable_gqa=*/true);
}

}  // namespace retrosparse::bench
