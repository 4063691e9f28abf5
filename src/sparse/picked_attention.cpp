#include "sparse/picked_attention.h"

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/logsumexp.h>
#include <ATen/ops/matmul.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "base/numeric.h"

namespace retrosparse {
namespace {

// Elements of gathered keys at a time.
constexpr int64_t kScratch = int64_t{1} << 24;

PartialAttention gather_and_attend(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, double scale,
                                   const at::Tensor& group_of_head, const PickedTokens& picked) {
  const int64_t rows = q.size(0), heads = q.size(1), head_dim = q.size(2), width = picked.positions.size(-1);
  const at::Tensor group = group_of_head.view({heads, 1, 1});
  const at::Tensor meant = at::arange(width, picked.counts.options()).lt(picked.counts.unsqueeze(-1));  // [R, n, P]
  std::vector<at::Tensor> outs, lses;
  const int64_t block = std::clamp<int64_t>(kScratch / (heads * width * head_dim), 1, rows);
  for (int64_t row = 0; row < rows; row += block) {
    const int64_t count = std::min(block, rows - row);
    const at::Tensor positions = picked.positions.narrow(1, row, count);
    const at::Tensor keys = k.index({positions, group}), values = v.index({positions, group});  // [R, count, P, D]
    const at::Tensor queries = q.narrow(0, row, count).transpose(0, 1).unsqueeze(2);            // [R, count, 1, D]
    const at::Tensor scores = at::matmul(queries, keys.transpose(-1, -2)).squeeze(2).to(at::kFloat).mul(scale);
    const at::Tensor masked = scores.masked_fill(meant.narrow(1, row, count).logical_not(), kMinusInfinity);
    const at::Tensor lse = masked.logsumexp(-1);
    const at::Tensor shares = (masked - lse.unsqueeze(-1)).exp().nan_to_num(0.0);
    outs.push_back(at::matmul(shares.unsqueeze(2).to(v.scalar_type()), values).squeeze(2).transpose(0, 1));
    lses.push_back(lse.transpose(0, 1));
  }
  return {at::cat(outs), at::cat(lses)};
}

// Four numbers that are added and multiplied at once: the compiler may not reorder sums by itself.
using Lanes = float __attribute__((vector_size(16)));
constexpr int64_t kLanes = 4;

Lanes load(const float* values) {
  Lanes lanes;
  std::memcpy(&lanes, values, sizeof(lanes));
  return lanes;
}

float dot(const float* a, const float* b, int64_t size) {
  Lanes sum0{}, sum1{};
  int64_t d = 0;
  for (; d + 2 * kLanes <= size; d += 2 * kLanes) {
    sum0 += load(a + d) * load(b + d);
    sum1 += load(a + d + kLanes) * load(b + d + kLanes);
  }
  sum0 += sum1;
  float sum = (sum0[0] + sum0[1]) + (sum0[2] + sum0[3]);
  for (; d < size; ++d) {
    sum += a[d] * b[d];
  }
  return sum;
}

// out += share * values
void add_scaled(float share, const float* values, int64_t size, float* out) {
  int64_t d = 0;
  for (; d + kLanes <= size; d += kLanes) {
    const Lanes sum = load(out + d) + share * load(values + d);
    std::memcpy(out + d, &sum, sizeof(sum));
  }
  for (; d < size; ++d) {
    out[d] += share * values[d];
  }
}

// The keys or values of one head.
struct HeadRows {
  const float* first;
  int64_t stride;
  const float* at(int64_t position) const { return first + position * stride; }
};

// Writes out [D] and returns the log-sum-exp. scores: scratch [count].
float attend_row(const float* q, HeadRows keys, HeadRows values, float scale, const int64_t* positions, int64_t count,
                 int64_t head_dim, float* scores, float* out) {
  float maximum = -std::numeric_limits<float>::infinity();
  for (int64_t i = 0; i < count; ++i) {
    scores[i] = scale * dot(q, keys.at(positions[i]), head_dim);
    maximum = std::max(maximum, scores[i]);
  }
  std::fill_n(out, head_dim, 0.0F);
  if (count == 0) {
    return maximum;
  }
  float sum = 0;
  for (int64_t i = 0; i < count; ++i) {
    const float share = std::exp(scores[i] - maximum);
    sum += share;
    add_scaled(share, values.at(positions[i]), head_dim, out);
  }
  for (int64_t d = 0; d < head_dim; ++d) {
    out[d] /= sum;
  }
  return maximum + std::log(sum);
}

PartialAttention attend_in_place(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, double scale,
                                 const at::Tensor& group_of_head, const PickedTokens& picked) {
  const int64_t num_rows = q.size(0), num_heads = q.size(1), head_dim = q.size(2);
  const at::Tensor queries = q.contiguous(), positions = picked.positions.contiguous();
  const at::Tensor counts = picked.counts.contiguous(), groups = group_of_head.contiguous();
  const int64_t width = positions.size(-1);
  PartialAttention result{at::empty(q.sizes(), q.options()), at::empty({num_rows, num_heads}, q.options())};
  auto* out = result.out.mutable_data_ptr<float>();
  auto* lse = result.lse.mutable_data_ptr<float>();
  at::parallel_for(0, num_rows * num_heads, 1, [&](int64_t begin, int64_t end) {
    std::vector<float> scores(static_cast<size_t>(width));
    for (int64_t i = begin; i < end; ++i) {  // [n, R]
      const int64_t row = i / num_heads, head = i % num_heads, group = groups.const_data_ptr<int64_t>()[head];
      const int64_t place = head * num_rows + row;  // [R, n]
      const HeadRows keys{k.const_data_ptr<float>() + group * k.stride(1), k.stride(0)};
      const HeadRows values{v.const_data_ptr<float>() + group * v.stride(1), v.stride(0)};
      lse[i] = attend_row(queries.const_data_ptr<float>() + i * head_dim, keys, values, static_cast<float>(scale),
                          positions.const_data_ptr<int64_t>() + place * width, counts.const_data_ptr<int64_t>()[place],
                          head_dim, scores.data(), out + i * head_dim);
    }
  });
  return result;
}

}  // namespace

PartialAttention attend_picked(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, double scale,
                               const at::Tensor& group_of_head, const PickedTokens& picked) {
  const bool in_place = q.is_cpu() && q.scalar_type() == at::kFloat && k.stride(2) == 1 && v.stride(2) == 1;
  return in_place ? attend_in_place(q, k, v, scale, group_of_head, picked)
                  : gather_and_attend(q, k, v, scale, group_of_head, picked);
}

}  // namespace retrosparse
