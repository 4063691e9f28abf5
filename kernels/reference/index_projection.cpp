#include "retrosparse_kernels/index_projection.h"

#include "reference/numeric.h"

namespace retrosparse::kernels::reference {
namespace {

double dot(const Bfloat16* a, const Bfloat16* b, int32_t size) {
  double sum = 0;
  for (int32_t j = 0; j < size; ++j) {
    sum += static_cast<double>(to_float(a[j])) * static_cast<double>(to_float(b[j]));
  }
  return sum;
}

void store(void* out, Dtype dtype, int64_t index, float value) {
  switch (dtype) {
    case Dtype::kFloat32:
      static_cast<float*>(out)[index] = value;
      break;
    case Dtype::kFloat16:
      static_cast<Float16*>(out)[index] = from_float<Float16>(value);
      break;
    case Dtype::kBfloat16:
      static_cast<Bfloat16*>(out)[index] = from_float<Bfloat16>(value);
      break;
  }
}

}  // namespace

void index_projection(const IndexProjectionParams& params) {
  const auto* weights = static_cast<const Bfloat16*>(params.weights);
  const auto* gate_weights = static_cast<const Bfloat16*>(params.gate_weights);
  for (int64_t t = 0; t < params.tokens; ++t) {
    for (int32_t i = 0; i < params.num_heads; ++i) {
      const auto* x =
          static_cast<const Bfloat16*>(params.x) + t * params.x_token_stride + params.heads[i] * params.x_head_stride;
      for (int32_t d = 0; d < kIndexDim; ++d) {
        const Bfloat16* row = weights + (int64_t{i} * kIndexDim + d) * params.head_dim;
        store(params.out, params.out_dtype, t * params.out_token_stride + i * params.out_head_stride + d,
              static_cast<float>(dot(row, x, params.head_dim)));
      }
      if (gate_weights != nullptr) {
        const double gate = dot(gate_weights + int64_t{i} * params.head_dim, x, params.head_dim);
        params.gates[i * params.gates_head_stride + t] =
            static_cast<float>(gate + static_cast<double>(params.gate_biases[i]));
      }
    }
  }
}

}  // namespace retrosparse::kernels::reference
