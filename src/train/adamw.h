#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace retrosparse {

struct AdamWOptions {
  double beta1 = 0.9, beta2 = 0.999, eps = 1e-8;
  double weight_decay = 0.01;
  double max_grad_norm = 1.0;  ///< gradients are scaled down to this norm over all parameters
};

/// AdamW (arXiv 1711.05101) over a fixed list of tensors: libtorch's fused update, with a state that is plain tensors.
class AdamW {
 public:
  /// Makes every parameter require gradients.
  AdamW(std::vector<at::Tensor> parameters, AdamWOptions options);

  /// Clips and applies the gradients at this learning rate, clears them, and returns their norm before clipping. A
  /// parameter without a gradient is treated as having a zero one. A norm that is not finite changes nothing: the
  /// caller has to stop.
  double step(double learning_rate);

  /// Everything that a resumed run needs beside the parameters: "exp_avg.0", "exp_avg_sq.0", ..., "step".
  std::map<std::string, at::Tensor> state() const;
  /// Throws Error naming what is missing or of wrong shape.
  void load_state(const std::map<std::string, at::Tensor>& state);

  const std::vector<at::Tensor>& parameters() const { return parameters_; }

 private:
  std::vector<at::Tensor> parameters_, exp_avg_, exp_avg_sq_, steps_;
  AdamWOptions options_;
};

}  // namespace retrosparse
