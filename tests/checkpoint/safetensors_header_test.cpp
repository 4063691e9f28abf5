#include "checkpoint/safetensors_header.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <tuple>

#include "base/testing.h"
#include "checkpoint/bytes.h"

namespace retrosparse {
namespace {

SafetensorsHeader parse_bytes(std::string_view bytes) {
  return parse_safetensors_header(std::as_bytes(std::span(bytes)), bytes.size(), "m.safetensors");
}

SafetensorsHeader parse(std::string_view header, size_t data_bytes) {
  return parse_bytes(safetensors_bytes(header, data_bytes));
}

TEST(SafetensorsHeader, ReadsTensorsAndMetadata) {
  const SafetensorsHeader header = parse(R"({"__metadata__":{"format":"pt"},
      "b":{"dtype":"F32","shape":[2,3],"data_offsets":[2,26]},
      "a":{"dtype":"BF16","shape":[],"data_offsets":[0,2]},
      "empty":{"dtype":"I64","shape":[0,7],"data_offsets":[26,26]}}   )",
                                         26);
  EXPECT_EQ(header.metadata.at("format"), "pt");
  ASSERT_EQ(header.tensors.size(), 3U);
  const TensorInfo& b = header.tensors.at("b");
  EXPECT_EQ(b.dtype, at::ScalarType::Float);
  EXPECT_EQ(b.shape, (std::vector<int64_t>{2, 3}));
  EXPECT_EQ(b.numel(), 6);
  EXPECT_EQ(b.begin, 2U);
  EXPECT_EQ(b.bytes(), 24U);
  EXPECT_EQ(header.tensors.at("a").numel(), 1);
  EXPECT_EQ(header.tensors.at("empty").numel(), 0);
  EXPECT_TRUE(parse("{}", 0).tensors.empty());
}

TEST(SafetensorsHeader, KnowsEveryDtypeByItsName) {
  for (const std::string name : {"BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2", "I16", "U16", "F16", "BF16", "I32", "U32",
                                 "F32", "F64", "I64", "U64", "C64", "F8_E8M0"}) {
    const std::optional<at::ScalarType> dtype = dtype_from_name(name);
    ASSERT_TRUE(dtype.has_value()) << name;
    EXPECT_EQ(dtype_name(*dtype), name);
    const size_t bytes = 3 * c10::elementSize(*dtype);
    EXPECT_EQ(parse(fmt::format(R"({{"x":{{"dtype":"{}","shape":[3],"data_offsets":[0,{}]}}}})", name, bytes), bytes)
                  .tensors.at("x")
                  .dtype,
              *dtype);
  }
  EXPECT_EQ(dtype_name(at::ScalarType::QInt8), std::nullopt);
}

TEST(SafetensorsHeader, ReadsWhatItWrites) {
  const std::vector<TensorInfo> tensors = {{"b \"quoted\"", at::ScalarType::Long, {2, 3}, 0, 48},
                                           {"a", at::ScalarType::Float, {}, 48, 52},
                                           {"é\n", at::ScalarType::Bool, {0, 9}, 52, 52}};
  const std::string bytes = safetensors_header_bytes(tensors, {{"note", "a \xff b"}});
  EXPECT_EQ(bytes.size() % 8, 0U);
  const SafetensorsHeader header = parse_bytes(bytes + std::string(52, ' '));
  EXPECT_EQ(header.metadata.at("note"), "a \xef\xbf\xbd b") << "U+FFFD";
  ASSERT_EQ(header.tensors.size(), tensors.size());
  for (const TensorInfo& info : tensors) {
    const TensorInfo& read = header.tensors.at(info.name);
    EXPECT_EQ(std::tie(read.name, read.dtype, read.shape, read.begin, read.end),
              std::tie(info.name, info.dtype, info.shape, info.begin, info.end));
  }
}

TEST(SafetensorsHeader, RefusesFilesThatAreTooShort) {
  EXPECT_EQ(error_of([] { parse_bytes(""); }),
            "m.safetensors: not a safetensors file: too short: expected at least 8 bytes, found 0");
  EXPECT_TRUE(contains(error_of([] { parse_bytes("1234567"); }), "expected at least 8 bytes, found 7"));
  const std::string whole = safetensors_bytes(R"({"x":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}})", 4);
  EXPECT_NO_THROW(parse_bytes(whole));
  for (size_t size = 0; size < whole.size(); ++size) {
    EXPECT_FALSE(error_of([&] { parse_bytes(whole.substr(0, size)); }).empty()) << size;
  }
  EXPECT_TRUE(contains(error_of([&] { parse_bytes(whole.substr(0, 30)); }), "the header reaches beyond the end"));
  EXPECT_TRUE(contains(error_of([&] { parse_bytes(whole.substr(0, whole.size() - 1)); }),
                       "tensor 'x': truncated: its data reaches beyond the end of the file: expected 4 bytes of data, "
                       "found 3"));
}

TEST(SafetensorsHeader, RefusesAbsurdHeaderLengths) {
  std::string bytes = safetensors_bytes("{}", 0);
  bytes[7] = '\x7f';
  EXPECT_TRUE(contains(error_of([&] { parse_bytes(bytes); }), "absurd header length: expected at most 100 MB"));
  for (const char high : {'\x00', '\xff'}) {
    bytes[7] = high;
    bytes[6] = high;
    bytes[1] = '\x10';
    EXPECT_FALSE(error_of([&] { parse_bytes(bytes); }).empty());
  }
}

struct BadHeader {
  const char* header;
  size_t data_bytes;
  const char* message;
};

class SafetensorsHeaderBad : public testing::TestWithParam<BadHeader> {};

TEST_P(SafetensorsHeaderBad, IsRefusedWithItsReason) {
  const std::string message = error_of([] { parse(GetParam().header, GetParam().data_bytes); });
  EXPECT_TRUE(contains(message, GetParam().message));
  EXPECT_TRUE(message.starts_with("m.safetensors: "));
}

// U8 tensors, so that a size is a number of bytes.
INSTANTIATE_TEST_SUITE_P(
    Each, SafetensorsHeaderBad,
    testing::Values(
        BadHeader{"", 0, "not a json object"}, BadHeader{"[]", 0, "not a json object"},
        BadHeader{" {}", 0, "not a json object"}, BadHeader{"{", 0, "not valid json"},
        BadHeader{"{\"x\":\xff}", 0, "not valid json"}, BadHeader{R"({"x":3})", 0, "key 'x': wrong type"},
        BadHeader{R"({"x":{"a":[[1]]}})", 0, "nested too deep"},
        BadHeader{R"({"__metadata__":{"a":1}})", 0, "key '__metadata__.a': wrong type: expected a string"},
        BadHeader{R"({"x":{"dtype":"U8","shape":[1]}})", 1, "key 'x.data_offsets': missing"},
        BadHeader{R"({"x":{"dtype":"F4","shape":[1],"data_offsets":[0,1]}})", 1,
                  "tensor 'x': unknown dtype: found 'F4'"},
        BadHeader{R"({"x":{"dtype":"U8","shape":[-1],"data_offsets":[0,1]}})", 1, "negative size: found shape [-1]"},
        BadHeader{R"({"x":{"dtype":"U8","shape":[1.0],"data_offsets":[0,1]}})", 1, "key 'x.shape[0]': wrong type"},
        BadHeader{R"({"x":{"dtype":"U8","shape":[18446744073709551615],"data_offsets":[0,1]}})", 1, "out of range"},
        BadHeader{R"({"x":{"dtype":"F32","shape":[4611686018427387904],"data_offsets":[0,0]}})", 0, "absurd size"},
        BadHeader{R"({"x":{"dtype":"U8","shape":[4294967296,4294967296],"data_offsets":[0,0]}})", 0, "absurd size"},
        BadHeader{R"({"x":{"dtype":"U8","shape":[0,4294967296,4294967296],"data_offsets":[0,0]}})", 0, "absurd size"},
        BadHeader{R"({"x":{"dtype":"U8","shape":[1],"data_offsets":[1,0]}})", 1, "bad data_offsets"},
        BadHeader{R"({"x":{"dtype":"U8","shape":[1],"data_offsets":[-1,0]}})", 1, "bad data_offsets"},
        BadHeader{R"({"x":{"dtype":"U8","shape":[1],"data_offsets":[0,1,2]}})", 1, "bad data_offsets"},
        BadHeader{R"({"x":{"dtype":"U8","shape":[1],"data_offsets":[0,18446744073709551615]}})", 1, "out of range"},
        BadHeader{R"({"x":{"dtype":"F16","shape":[3],"data_offsets":[0,5]}})", 5,
                  "its data does not fit its shape: expected 6 bytes for F16 [3], found 5"},
        BadHeader{
            R"({"x":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"y":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}})",
            3, "tensor 'y': overlaps the tensor before it: expected data from byte 2, found 1"},
        BadHeader{
            R"({"x":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"y":{"dtype":"U8","shape":[2],"data_offsets":[3,5]}})",
            5, "tensor 'y': follows a hole: expected data from byte 2, found 3"},
        BadHeader{
            R"({"x":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"y":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}})",
            2, "tensor 'y': overlaps"},
        BadHeader{R"({"x":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}})", 3, "bytes behind the last tensor"},
        BadHeader{
            R"({"x":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"x":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})",
            1, "tensor 'x': given twice"}));

}  // namespace
}  // namespace retrosparse
