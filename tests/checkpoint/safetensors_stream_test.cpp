#include "checkpoint/safetensors_stream.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "base/testing.h"
#include "checkpoint/safetensors_writer.h"

namespace retrosparse {
namespace {

TEST(SafetensorsStream, WritesTheSameBytesAsTheWholeTensor) {
  const TempFolder folder;
  const at::Tensor logits = at::randn({7, 3, 2}).to(at::kBFloat16);
  write_safetensors(folder / "whole", {{"logits", logits}}, {{"k", "v"}});
  SafetensorsStream stream(folder / "rows", "logits", at::kBFloat16, {7, 3, 2}, {{"k", "v"}});
  stream.append(logits.slice(0, 0, 4));
  stream.append(logits.slice(0, 4, 4));
  EXPECT_THROW(stream.commit(), std::logic_error) << "three rows are missing";
  stream.append(logits.slice(0, 4, 7));
  EXPECT_FALSE(std::filesystem::exists(folder / "rows"));
  stream.commit();
  EXPECT_EQ(read_text(folder / "rows"), read_text(folder / "whole"));
}

TEST(SafetensorsStream, RefusesRowsThatDoNotBelong) {
  const TempFolder folder;
  {
    SafetensorsStream stream(folder / "a", "x", at::kFloat, {2, 3});
    EXPECT_THROW(stream.append(at::ones({1, 4})), std::logic_error);
    EXPECT_THROW(stream.append(at::ones({3, 3})), std::logic_error);
    EXPECT_THROW(stream.append(at::ones({1, 3}, at::kHalf)), std::logic_error);
    EXPECT_THROW(stream.append(at::scalar_tensor(1)), std::logic_error);
  }
  EXPECT_TRUE(contains(error_of([&] { SafetensorsStream(folder / "a", "x", at::kComplexDouble, {1}); }),
                       "safetensors has no such dtype: found ComplexDouble"));
  EXPECT_TRUE(folder.names().empty()) << "nothing is left of a file that was not committed";
}

}  // namespace
}  // namespace retrosparse
