#include "retrosparse_kernels/rope.h"

#include "kernels/kernel_testing.h"

namespace retrosparse::kernels {
namespace {

using testing::Array;

struct Case {
  int64_t tokens;
  int32_t heads, head_dim;
  int64_t padding;  ///< elements between two heads
  int64_t offset;   ///< elements between an aligned address and the first head

  int64_t head_stride() const { return head_dim + padding; }
  int64_t elements() const { return tokens * heads * head_stride(); }
};

// Aligned and not, halves that a 16-byte access divides or not, blocks that hold many tokens or a part of one.
const std::vector<Case> kCases = {
    {1, 1, 2, 0, 0},     {5, 3, 6, 1, 1},    {33, 4, 64, 0, 0},  {100, 2, 64, 16, 0}, {7, 1, 128, 0, 0},
    {1, 32, 128, 0, 0},  {50, 5, 128, 3, 0}, {9, 40, 128, 0, 0}, {3, 128, 128, 0, 0}, {11, 2, 80, 0, 1},
    {1001, 1, 16, 0, 0}, {4, 7, 256, 8, 0},  {0, 2, 64, 0, 0},
};

struct Angles {
  explicit Angles(const Case& shape)
      : cos(Dtype::kFloat32, shape.tokens * shape.head_dim / 2), sin(Dtype::kFloat32, cos.size()) {
    const Array angle = Array::normal(Dtype::kFloat32, cos.size(), 9);
    for (int64_t i = 0; i < cos.size(); ++i) {
      cos.set(i, std::cos(10 * angle.at(i)));
      sin.set(i, std::sin(10 * angle.at(i)));
    }
  }
  Array cos, sin;
};

RopeParams params_of(const Case& shape, Dtype dtype, bool inverse) {
  return {.tokens = shape.tokens,
          .heads = shape.heads,
          .head_dim = shape.head_dim,
          .x_token_stride = shape.heads * shape.head_stride(),
          .x_head_stride = shape.head_stride(),
          .out_token_stride = shape.heads * shape.head_stride(),
          .out_head_stride = shape.head_stride(),
          .inverse = inverse,
          .dtype = dtype};
}

Array run_reference(const Case& shape, Dtype dtype, const Array& x, const Angles& angles, bool inverse = false) {
  Array out(dtype, shape.elements(), shape.offset);
  RopeParams params = params_of(shape, dtype, inverse);
  params.x = x.data();
  params.cos = static_cast<const float*>(angles.cos.data());
  params.sin = static_cast<const float*>(angles.sin.data());
  params.out = out.data();
  reference::rope(params, 0, shape.tokens);
  return out;
}

template <class Check>
void for_every_case(const Check& check) {
  for (const Dtype dtype : testing::kAllDtypes) {
    for (const Case& shape : kCases) {
      SCOPED_TRACE(::testing::Message() << testing::name_of(dtype) << " [" << shape.tokens << ", " << shape.heads
                                        << ", " << shape.head_dim << "], padding " << shape.padding << ", offset "
                                        << shape.offset);
      check(shape, dtype, Array::normal(dtype, shape.elements(), 1, shape.offset), Angles(shape));
    }
  }
}

TEST(Rope, ReferenceAgreesWithFloat64) {
  for_every_case([](const Case& shape, Dtype dtype, const Array& x, const Angles& angles) {
    const Array out = run_reference(shape, dtype, x, angles);
    const int64_t half = shape.head_dim / 2;
    for (int64_t row = 0; row < shape.tokens * shape.heads; ++row) {
      const int64_t start = row * shape.head_stride();
      for (int64_t j = 0; j < half; ++j) {
        const double first = x.at(start + j), second = x.at(start + j + half);
        const double cos = angles.cos.at(row / shape.heads * half + j),
                     sin = angles.sin.at(row / shape.heads * half + j);
        const double limit = testing::rounding_error(dtype) * 2.01 * (std::abs(first) + std::abs(second));
        ASSERT_LE(std::abs(out.at(start + j) - (first * cos - second * sin)), limit) << row << ", " << j;
        ASSERT_LE(std::abs(out.at(start + j + half) - (second * cos + first * sin)), limit) << row << ", " << j;
      }
      for (int64_t j = shape.head_dim; j < shape.head_stride(); ++j) {
        ASSERT_TRUE(out.is_untouched(start + j)) << "the gap behind row " << row << " was written";
      }
    }
  });
}

TEST(Rope, InverseUndoesIt) {
  const Case shape{20, 3, 64, 0, 0};
  const Angles angles(shape);
  const Array x = Array::normal(Dtype::kFloat32, shape.elements(), 2);
  const Array rotated = run_reference(shape, Dtype::kFloat32, x, angles);
  const Array back = run_reference(shape, Dtype::kFloat32, rotated, angles, /*inverse=*/true);
  for (int64_t i = 0; i < x.size(); ++i) {
    ASSERT_NEAR(back.at(i), x.at(i), 1e-5);
  }
}

#ifdef RETROSPARSE_WITH_CUDA
Array run_on_gpu(const Case& shape, Dtype dtype, const Array& x, const Angles& angles, bool inverse = false) {
  testing::DeviceArray device_x(x), cos(angles.cos), sin(angles.sin);
  testing::DeviceArray device_out(Array(dtype, shape.elements(), shape.offset));
  RopeParams params = params_of(shape, dtype, inverse);
  params.x = device_x.data();
  params.cos = static_cast<const float*>(cos.data());
  params.sin = static_cast<const float*>(sin.data());
  params.out = device_out.data();
  EXPECT_EQ(sm90::rope(params, nullptr), cudaSuccess);
  return device_out.fetch();
}

TEST(RopeGpu, AgreesWithReference) {
  RETROSPARSE_REQUIRE_GPU();
  for_every_case([](const Case& shape, Dtype dtype, const Array& x, const Angles& angles) {
    for (const bool inverse : {false, true}) {
      testing::expect_same_up_to_rounding(run_on_gpu(shape, dtype, x, angles, inverse),
                                          run_reference(shape, dtype, x, angles, inverse), dtype, /*roundings=*/1);
    }
  });
}

TEST(RopeGpu, RepeatsBitForBit) {
  RETROSPARSE_REQUIRE_GPU();
  const Case shape{500, 8, 128, 0, 0};
  const Angles angles(shape);
  const Array x = Array::normal(Dtype::kBfloat16, shape.elements(), 3);
  const Array first = run_on_gpu(shape, Dtype::kBfloat16, x, angles);
  for (int repeat = 0; repeat < 20; ++repeat) {
    ASSERT_EQ(run_on_gpu(shape, Dtype::kBfloat16, x, angles), first) << "repeat " << repeat;
  }
}
#endif

}  // namespace
}  // namespace retrosparse::kernels
