#pragma once
#include "plan/conversion.h"
#include "plan/layer_heads.h"

namespace retrosparse {

/// A stretch of a program that runs over and over: what is computed, moved and launched in it.
struct Effort {
  double product_flops = 0;  ///< of products and attention in the dtype of the weights
  double float32_flops = 0;  ///< of those that are always float32
  double bytes = 0;          ///< that element-wise operations, copies and sorts move
  double launches = 0;       ///< tensor operations

  Effort& operator+=(const Effort& other);

  /// The processor's time, or the time to launch it all where that is longer: a GPU computes while the next operation
  /// is being launched, and a small model waits for the launches. On the CPU one comes after the other.
  double seconds(const Machine& machine) const;
};

Effort operator*(double times, Effort effort);
Effort operator+(Effort a, const Effort& b);

/// A forward pass of a whole document of `tokens` tokens in chunks, without gradients; all heads dense or as planned.
Effort forward_effort(const ConversionPlan& plan, double tokens, double chunk, bool all_dense);

/// IndexLoss in all layers of one document.
Effort index_loss_effort(const ConversionPlan& plan, double rows, bool with_gradients);

/// The label rows of a prefilled sample, run once with an index that picks up to `picked` tokens of a row, or densely
/// (`picked` 0), and compared.
Effort label_rows_effort(const ConversionPlan& plan, double rows, double picked, bool paper);

/// A document's forward and backward pass in stage 2, and one step of its optimizer.
Effort distill_effort(const ConversionPlan& plan, double tokens, double label_rows);
Effort optimizer_effort(const ConversionPlan& plan);

}  // namespace retrosparse
