// Results without data: what torch.compile and meta tensors trace. Sizes stay symbolic.
#include <ATen/ATen.h>
#include <retrosparse_kernels/decode_selection.h>
#include <torch/library.h>

namespace retrosparse::engine {
namespace {

using at::Tensor;
using Two = std::tuple<Tensor, Tensor>;
using Three = std::tuple<Tensor, Tensor, Tensor>;

Tensor empty(c10::SymIntArrayRef sizes, const Tensor& like, at::ScalarType dtype) {
  return at::empty_symint(sizes, like.options().dtype(dtype));
}

Two prefill_result(const Tensor& q) {
  return {empty(q.sym_sizes(), q, q.scalar_type()), empty({q.sym_size(1), q.sym_size(0)}, q, at::kFloat)};
}

Two prefill_attention(const Tensor& q, const Tensor&, const Tensor&, at::IntArrayRef, int64_t, int64_t, double,
                      const std::optional<Tensor>&) {
  return prefill_result(q);
}
Two sparse_prefill(const Tensor& q, const Tensor&, const Tensor&, const Tensor&, const Tensor&, const Tensor&,
                   at::IntArrayRef, int64_t, int64_t, double, at::ArrayRef<double>) {
  return prefill_result(q);
}

Tensor index_projection(const Tensor& x, const Tensor&, at::IntArrayRef heads, at::ScalarType dtype) {
  return empty({x.sym_size(0), static_cast<int64_t>(heads.size()), kernels::kIndexDim}, x, dtype);
}
Two index_projection_gated(const Tensor& x, const Tensor& weights, const Tensor&, const Tensor&, at::IntArrayRef heads,
                           at::ScalarType dtype) {
  return {index_projection(x, weights, heads, dtype),
          empty({static_cast<int64_t>(heads.size()), x.sym_size(0)}, x, at::kFloat)};
}

Tensor decode_lse(const Tensor& q) {
  return empty({q.sym_size(0), q.sym_size(1), q.sym_size(2)}, q, at::kFloat);
}
Two decode_attention(const Tensor& q, const Tensor&, const Tensor&, const Tensor&, const std::optional<Tensor>&,
                     at::IntArrayRef, int64_t, int64_t, double, int64_t) {
  return {empty(q.sym_sizes(), q, q.scalar_type()), decode_lse(q)};
}
Three sparse_decode(const Tensor& q, const Tensor&, const Tensor&, const Tensor&, const std::optional<Tensor>&,
                    const Tensor&, const Tensor& gates, const Tensor&, at::IntArrayRef, int64_t, int64_t, double,
                    int64_t, at::ArrayRef<double>, at::IntArrayRef, at::IntArrayRef) {
  return {empty(q.sym_sizes(), q, q.scalar_type()), decode_lse(q), empty(gates.sym_sizes(), gates, at::kInt)};
}

}  // namespace

TORCH_LIBRARY_IMPL(retrosparse, Meta, m) {
  m.impl("prefill_attention", prefill_attention);
  m.impl("sparse_prefill", sparse_prefill);
  m.impl("index_projection", index_projection);
  m.impl("index_projection_gated", index_projection_gated);
  m.impl("decode_attention", decode_attention);
  m.impl("sparse_decode", sparse_decode);
}

}  // namespace retrosparse::engine
