#include "retrosparse_kernels/index_projection.h"

#include "kernels/attention_testing.h"

namespace retrosparse::kernels {
namespace {

using testing::Array;

struct Case {
  int64_t tokens;
  int32_t head_dim;
  std::vector<int32_t> heads;
  Dtype out_dtype;
  bool has_gates;
};

constexpr int64_t kAllHeads = 6;
constexpr int64_t kPadding = 8;  // behind every row of x and of the output

struct Problem {
  explicit Problem(const Case& shape)
      : shape_(shape),
        x(Array::normal(Dtype::kBfloat16, shape.tokens * (kAllHeads * shape.head_dim + kPadding), 1)),
        weights(Array::normal(Dtype::kBfloat16, heads() * kIndexDim * shape.head_dim, 2)),
        gate_weights(Array::normal(Dtype::kBfloat16, heads() * shape.head_dim, 3)),
        biases(static_cast<size_t>(heads()), 0.25f) {}

  int64_t heads() const { return static_cast<int64_t>(shape_.heads.size()); }
  int64_t out_row() const { return heads() * kIndexDim + kPadding; }

  IndexProjectionParams params() const {
    IndexProjectionParams p;
    p.heads = shape_.heads.data();
    p.x_token_stride = kAllHeads * shape_.head_dim + kPadding;
    p.x_head_stride = shape_.head_dim;
    p.out_token_stride = out_row();
    p.out_head_stride = kIndexDim;
    p.gates_head_stride = shape_.tokens;
    p.tokens = shape_.tokens;
    p.num_heads = static_cast<int32_t>(heads());
    p.head_dim = shape_.head_dim;
    p.out_dtype = shape_.out_dtype;
    return p;
  }

  struct Result {
    Array out, gates;
  };
  Result empty_result() const {
    return {Array(shape_.out_dtype, shape_.tokens * out_row()), Array(Dtype::kFloat32, shape_.tokens * heads())};
  }
  Result run_reference() const {
    Result result = empty_result();
    IndexProjectionParams p = params();
    p.x = x.data();
    p.weights = weights.data();
    p.out = result.out.data();
    if (shape_.has_gates) {
      p.gate_weights = gate_weights.data();
      p.gate_biases = biases.data();
      p.gates = static_cast<float*>(result.gates.data());
    }
    reference::index_projection(p);
    return result;
  }

  const Case& shape_;
  Array x, weights, gate_weights;
  std::vector<float> biases;
};

TEST(IndexProjection, ReferenceProjectsTheNamedHeads) {
  const Case shape{5, 64, {4, 1}, Dtype::kFloat32, true};
  const Problem problem(shape);
  const Problem::Result result = problem.run_reference();
  double sum = 0;
  double gate = 0.25;
  for (int64_t j = 0; j < 64; ++j) {
    const auto x = static_cast<double>(problem.x.at(3 * (kAllHeads * 64 + kPadding) + 1 * 64 + j));
    sum += x * static_cast<double>(problem.weights.at((1 * kIndexDim + 7) * 64 + j));
    gate += x * static_cast<double>(problem.gate_weights.at(1 * 64 + j));
  }
  EXPECT_NEAR(result.out.at(3 * problem.out_row() + 1 * kIndexDim + 7), sum, 1e-5);
  EXPECT_NEAR(result.gates.at(1 * 5 + 3), gate, 1e-5);
}

#ifdef RETROSPARSE_WITH_CUDA
TEST(IndexProjectionGpu, EqualsTheReference) {
  RETROSPARSE_REQUIRE_GPU();
  for (const Dtype dtype : testing::kAllDtypes) {
    for (const int32_t head_dim : {64, 128}) {
      for (const int64_t tokens : {1, 8, 16, 17, 1000, 9000}) {
        const Case shape{tokens, head_dim, {0, 3, 5}, dtype, tokens != 8};
        SCOPED_TRACE(::testing::Message()
                     << tokens << " tokens, head_dim " << head_dim << ", " << testing::name_of(dtype));
        const Problem problem(shape);
        const Problem::Result expected = problem.run_reference();
        const Problem::Result poison = problem.empty_result();
        testing::DeviceArray x(problem.x), weights(problem.weights), gate_weights(problem.gate_weights);
        testing::DeviceArray out(poison.out), gates(poison.gates);
        testing::DeviceVector<float> biases(problem.biases);
        IndexProjectionParams p = problem.params();
        p.x = x.data();
        p.weights = weights.data();
        p.out = out.data();
        if (shape.has_gates) {
          p.gate_weights = gate_weights.data();
          p.gate_biases = biases.data();
          p.gates = static_cast<float*>(gates.data());
        }
        ASSERT_EQ(sm90::index_projection(p, nullptr), cudaSuccess);
        const Array found = out.fetch();
        for (int64_t i = 0; i < found.size(); ++i) {
          if (expected.out.is_untouched(i)) {
            ASSERT_TRUE(found.is_untouched(i)) << "element " << i << " was written";
          } else {
            ASSERT_NEAR(found.at(i), expected.out.at(i),
                        2 * testing::rounding_error(dtype) * std::abs(expected.out.at(i)) + 1e-4);
          }
        }
        testing::expect_close_lse(gates.fetch(), expected.gates, 1e-4);
      }
    }
  }
}
#endif

}  // namespace
}  // namespace retrosparse::kernels
