#include "retrosparse_kernels/rms_norm.h"

#include "kernels/kernel_testing.h"

namespace retrosparse::kernels {
namespace {

using testing::Array;

struct Case {
  int64_t rows, dim;
  int64_t padding;  ///< elements between two rows
  int64_t offset;   ///< elements between an aligned address and the first row
};

// Every path of the CUDA dispatch: 8, 16 and 32 lanes, a block; one element or 16 bytes an access; half-filled blocks.
const std::vector<Case> kCases = {
    {1, 1, 0, 0},      {7, 3, 2, 1},    {5, 64, 0, 0},   {333, 64, 64, 0}, {65, 128, 0, 0},  {1000, 128, 8, 0},
    {9, 128, 3, 0},    {9, 128, 0, 1},  {17, 255, 0, 0}, {31, 256, 0, 0},  {12, 513, 1, 0},  {3, 1024, 0, 0},
    {257, 1000, 0, 0}, {4, 4096, 0, 0}, {2, 4099, 0, 0}, {3, 8200, 16, 0}, {1, 40000, 0, 0}, {0, 64, 0, 0},
};

RmsNormParams params_of(const Case& shape, Dtype dtype) {
  return {.rows = shape.rows,
          .dim = shape.dim,
          .x_row_stride = shape.dim + shape.padding,
          .out_row_stride = shape.dim + shape.padding,
          .eps = 1e-5f,
          .dtype = dtype};
}

int64_t elements(const Case& shape) {
  return shape.rows * (shape.dim + shape.padding);
}

Array run_reference(const Case& shape, Dtype dtype, const Array& x, const Array& weight) {
  Array out(dtype, elements(shape), shape.offset);
  RmsNormParams params = params_of(shape, dtype);
  params.x = x.data();
  params.weight = weight.data();
  params.out = out.data();
  reference::rms_norm(params, 0, shape.rows);
  return out;
}

template <class Check>
void for_every_case(const Check& check) {
  for (const Dtype dtype : testing::kAllDtypes) {
    for (const Case& shape : kCases) {
      SCOPED_TRACE(::testing::Message() << testing::name_of(dtype) << " [" << shape.rows << ", " << shape.dim
                                        << "], padding " << shape.padding << ", offset " << shape.offset);
      check(shape, dtype, Array::normal(dtype, elements(shape), 1, shape.offset),
            Array::normal(dtype, shape.dim, 2, shape.offset));
    }
  }
}

TEST(RmsNorm, ReferenceAgreesWithFloat64) {
  for_every_case([](const Case& shape, Dtype dtype, const Array& x, const Array& weight) {
    const Array out = run_reference(shape, dtype, x, weight);
    const double tolerance = dtype == Dtype::kFloat32 ? 1e-6 : 2.01 * testing::rounding_error(dtype);
    const double smallest = dtype == Dtype::kFloat16 ? 1e-6 : 1e-30;  // binary16's subnormals are 6e-8 apart
    for (int64_t row = 0; row < shape.rows; ++row) {
      const int64_t start = row * (shape.dim + shape.padding);
      double sum = 0;
      for (int64_t j = 0; j < shape.dim; ++j) {
        sum += std::pow(static_cast<double>(x.at(start + j)), 2);
      }
      const double rms = std::sqrt(sum / static_cast<double>(shape.dim) + 1e-5);
      for (int64_t j = 0; j < shape.dim; ++j) {
        const double exact = x.at(start + j) / rms * weight.at(j);
        ASSERT_LE(std::abs(out.at(start + j) - exact), tolerance * std::abs(exact) + smallest) << row << ", " << j;
      }
      for (int64_t j = shape.dim; j < shape.dim + shape.padding; ++j) {
        ASSERT_TRUE(out.is_untouched(start + j)) << "the gap behind row " << row << " was written";
      }
    }
  });
}

TEST(RmsNorm, ReferenceSplitsAtAnyRow) {
  const Case shape{10, 48, 5, 0};
  const Array x = Array::normal(Dtype::kFloat32, elements(shape), 3);
  const Array weight = Array::normal(Dtype::kFloat32, shape.dim, 4);
  Array out(Dtype::kFloat32, elements(shape));
  RmsNormParams params = params_of(shape, Dtype::kFloat32);
  params.x = x.data();
  params.weight = weight.data();
  params.out = out.data();
  reference::rms_norm(params, 4, 10);
  EXPECT_TRUE(out.is_untouched(0)) << "a row outside of the range was written";
  reference::rms_norm(params, 0, 4);
  EXPECT_EQ(out, run_reference(shape, Dtype::kFloat32, x, weight));
}

#ifdef RETROSPARSE_WITH_CUDA
Array run_on_gpu(const Case& shape, Dtype dtype, const Array& x, const Array& weight) {
  testing::DeviceArray device_x(x), device_weight(weight), device_out(Array(dtype, elements(shape), shape.offset));
  RmsNormParams params = params_of(shape, dtype);
  params.x = device_x.data();
  params.weight = device_weight.data();
  params.out = device_out.data();
  EXPECT_EQ(sm90::rms_norm(params, nullptr), cudaSuccess);
  return device_out.fetch();
}

TEST(RmsNormGpu, AgreesWithReference) {
  RETROSPARSE_REQUIRE_GPU();
  for_every_case([](const Case& shape, Dtype dtype, const Array& x, const Array& weight) {
    testing::expect_same_up_to_rounding(run_on_gpu(shape, dtype, x, weight), run_reference(shape, dtype, x, weight),
                                        dtype, /*roundings=*/2);
  });
}

TEST(RmsNormGpu, RepeatsBitForBit) {
  RETROSPARSE_REQUIRE_GPU();
  for (const Case& shape : {Case{300, 128, 0, 0}, Case{50, 4096, 0, 0}, Case{50, 999, 0, 1}}) {
    const Array x = Array::normal(Dtype::kBfloat16, elements(shape), 5, shape.offset);
    const Array weight = Array::normal(Dtype::kBfloat16, shape.dim, 6, shape.offset);
    const Array first = run_on_gpu(shape, Dtype::kBfloat16, x, weight);
    for (int repeat = 0; repeat < 20; ++repeat) {
      ASSERT_EQ(run_on_gpu(shape, Dtype::kBfloat16, x, weight), first) << "repeat " << repeat;
    }
  }
}

TEST(RmsNormGpu, WorksInPlace) {
  RETROSPARSE_REQUIRE_GPU();
  const Case shape{37, 4096, 0, 0};
  const Array x = Array::normal(Dtype::kBfloat16, elements(shape), 7);
  const Array weight = Array::normal(Dtype::kBfloat16, shape.dim, 8);
  testing::DeviceArray device_x(x), device_weight(weight);
  RmsNormParams params = params_of(shape, Dtype::kBfloat16);
  params.x = device_x.data();
  params.weight = device_weight.data();
  params.out = device_x.data();
  ASSERT_EQ(sm90::rms_norm(params, nullptr), cudaSuccess);
  EXPECT_EQ(device_x.fetch(), run_on_gpu(shape, Dtype::kBfloat16, x, weight));
}
#endif

}  // namespace
}  // namespace retrosparse::kernels
