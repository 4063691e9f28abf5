#include "checkpoint/safetensors.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <optional>

#include "base/testing.h"
#include "checkpoint/bytes.h"
#include "checkpoint/safetensors_writer.h"

namespace retrosparse {
namespace {

/// One tensor of every dtype and of some odd shapes.
std::map<std::string, at::Tensor> all_kinds() {
  at::manual_seed(0);
  const at::Tensor bytes = at::randint(0, 256, {16}, at::kByte);
  std::map<std::string, at::Tensor> tensors = {
      {"scalar", at::scalar_tensor(2.5)},
      {"empty", at::empty({0, 3})},
      {"matrix", at::randn({5, 7})},
      {"bool", at::randint(0, 2, {3}).to(at::kBool)},
      {"name with \"quotes\", a\nnewline and é", at::ones({1})},
  };
  for (const at::ScalarType dtype :
       {at::kByte, at::kChar, at::kShort, at::kInt, at::kLong, at::kUInt16, at::kUInt32, at::kUInt64, at::kHalf,
        at::kBFloat16, at::kFloat, at::kDouble, at::kComplexFloat, at::kFloat8_e4m3fn, at::kFloat8_e5m2,
        at::kFloat8_e4m3fnuz, at::kFloat8_e5m2fnuz, at::kFloat8_e8m0fnu}) {
    tensors[std::string("kind.") + c10::toString(dtype)] = bytes.view(dtype);
  }
  return tensors;
}

/// Same dtype, shape and bits.
bool same(const at::Tensor& a, const at::Tensor& b) {
  const auto bytes = [](const at::Tensor& tensor) {
    return std::string(static_cast<const char*>(tensor.contiguous().const_data_ptr()), tensor.nbytes());
  };
  return a.scalar_type() == b.scalar_type() && a.sizes() == b.sizes() && bytes(a) == bytes(b);
}

TEST(Safetensors, EveryKindOfTensorComesBack) {
  const TempFolder folder;
  const std::map<std::string, at::Tensor> tensors = all_kinds();
  write_safetensors(folder / "a", tensors, {{"format", "pt"}, {"note", "línea\n"}});
  const SafetensorsFile file(folder / "a");
  EXPECT_EQ(file.metadata(), (std::map<std::string, std::string>{{"format", "pt"}, {"note", "línea\n"}}));
  ASSERT_EQ(file.tensors().size(), tensors.size());
  for (const auto& [name, tensor] : tensors) {
    EXPECT_TRUE(same(file.tensor(name), tensor)) << name;
  }
}

TEST(Safetensors, ARewriteIsByteIdentical) {
  const TempFolder folder;
  write_safetensors(folder / "a", all_kinds(), {{"b", "2"}, {"a", "1"}});
  const SafetensorsFile file(folder / "a");
  std::map<std::string, at::Tensor> tensors;
  for (const auto& [name, info] : file.tensors()) {
    tensors[name] = file.tensor(name);
  }
  write_safetensors(folder / "b", tensors, file.metadata());
  EXPECT_EQ(read_text(folder / "a"), read_text(folder / "b"));
  write_safetensors(folder / "a", tensors, file.metadata());  // over the file that the tensors are mapped from
  EXPECT_EQ(read_text(folder / "a"), read_text(folder / "b"));
}

TEST(Safetensors, WritesViewsAsWhatTheyShow) {
  const TempFolder folder;
  const at::Tensor matrix = at::arange(12, at::kFloat).view({3, 4});
  const at::Tensor complex = at::complex(at::randn({3}), at::randn({3}));
  write_safetensors(folder / "a", {{"transposed", matrix.t()},
                                   {"row", matrix[1]},
                                   {"expanded", matrix[0].expand({2, 4})},
                                   {"tied", matrix},
                                   {"conjugate", complex.conj()},
                                   {"needs_grad", matrix.detach().clone().requires_grad_()}});
  const SafetensorsFile file(folder / "a");
  EXPECT_TRUE(file.tensor("transposed").equal(matrix.t()));
  EXPECT_TRUE(file.tensor("row").equal(matrix[1]));
  EXPECT_TRUE(file.tensor("expanded").equal(matrix[0].expand({2, 4})));
  EXPECT_TRUE(file.tensor("tied").equal(matrix));
  EXPECT_TRUE(file.tensor("conjugate").equal(complex.conj().resolve_conj()));
  EXPECT_TRUE(file.tensor("needs_grad").equal(matrix));
}

TEST(Safetensors, WritesTensorsOfTheGpu) {
  if (!at::hasCUDA()) {
    GTEST_SKIP() << "no GPU";
  }
  const TempFolder folder;
  const at::Tensor matrix = at::randn({3, 4});
  write_safetensors(folder / "a", {{"x", matrix.cuda().t()}});
  EXPECT_TRUE(SafetensorsFile(folder / "a").tensor("x").equal(matrix.t()));
}

TEST(Safetensors, TensorsAreViewsThatKeepTheMappingAlive) {
  const TempFolder folder;
  write_safetensors(folder / "a", {{"x", at::arange(1000, at::kFloat)}});
  std::optional<SafetensorsFile> file(folder / "a");
  const at::Tensor first = file->tensor("x"), second = file->tensor("x");
  EXPECT_EQ(first.const_data_ptr(), second.const_data_ptr()) << "not copied";
  EXPECT_TRUE(first.is_contiguous() && first.is_cpu());
  file.reset();
  std::filesystem::remove(folder / "a");
  EXPECT_TRUE(first.equal(at::arange(1000, at::kFloat)));
}

TEST(Safetensors, CopiesWhatIsNotAligned) {
  const TempFolder folder;
  std::string header = R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},)"
                       R"("empty":{"dtype":"I32","shape":[0],"data_offsets":[1,1]},)"
                       R"("x":{"dtype":"I32","shape":[2],"data_offsets":[1,9]}})";
  header.resize((header.size() + 7) / 8 * 8, ' ');
  put_file(folder / "a", safetensors_bytes(header, 9));
  const at::Tensor x = SafetensorsFile(folder / "a").tensor("x");
  EXPECT_EQ(SafetensorsFile(folder / "a").tensor("empty").numel(), 0);
  EXPECT_TRUE(x.equal(at::full({2}, 0x01010101, at::kInt)));
  EXPECT_EQ(reinterpret_cast<uintptr_t>(x.const_data_ptr()) % 4, 0U);
}

TEST(Safetensors, NamesTheFileAndTheNearestTensor) {
  const TempFolder folder;
  write_safetensors(folder / "a", {{"model.norm.weight", at::ones({1})}});
  const SafetensorsFile file(folder / "a");
  EXPECT_EQ(
      error_of([&] { file.tensor("model.nrom.weight"); }),
      (folder / "a").string() + ": tensor 'model.nrom.weight': not in this file (did you mean 'model.norm.weight'?)");
  put_file(folder / "empty", "");
  EXPECT_TRUE(contains(error_of([&] { SafetensorsFile(folder / "empty"); }), "/empty: not a safetensors file"));
  EXPECT_TRUE(contains(error_of([&] { SafetensorsFile(folder / "gone"); }), "/gone: cannot open"));
}

TEST(SafetensorsWriter, RefusesTensorsThatCannotBeWritten) {
  const TempFolder folder;
  put_file(folder / "a", "old");
  const auto refusal = [&](const at::Tensor& tensor) {
    return error_of([&] { write_safetensors(folder / "a", {{"ok", at::ones({2})}, {"x", tensor}}); });
  };
  EXPECT_EQ(refusal(at::Tensor()),
            (folder / "a").string() + ": tensor 'x': cannot be written to safetensors: found an undefined tensor");
  EXPECT_TRUE(contains(refusal(at::empty({2}, at::kMeta)), "expected a dense tensor that holds data"));
  EXPECT_TRUE(contains(refusal(at::eye(2).to_sparse()), "expected a dense tensor that holds data"));
  EXPECT_TRUE(contains(refusal(at::ones({2}, at::kComplexDouble)), "a dtype that the format has, found ComplexDouble"));
  EXPECT_TRUE(contains(error_of([&] {
                         write_safetensors(folder / "a", {{"__metadata__", at::ones({2})}});
                       }),
                       "a name that the format reserves"));
  EXPECT_EQ(read_text(folder / "a"), "old");
  EXPECT_EQ(folder.names(), std::set<std::string>{"a"});
}

}  // namespace
}  // namespace retrosparse
