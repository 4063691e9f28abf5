#include "data/byte_stream.h"

#include "base/random.h"
#include "base/testing.h"
#include "data/packed_bytes.h"

namespace retrosparse {
namespace {

std::string read_all(const std::filesystem::path& path, size_t buffer_size = 1000) {
  const auto stream = open_bytes(path);
  std::string buffer(buffer_size, '\0'), all;
  while (const size_t count = stream->read(buffer)) {
    all.append(buffer, 0, count);
  }
  EXPECT_EQ(stream->read(buffer), 0u) << "the end stays the end";
  return all;
}

/// Half a megabyte that packs to more than the reader's buffer holds.
std::string long_text() {
  Random random{5};
  std::string text;
  while (text.size() < 500'000) {
    text += static_cast<char>(' ' + random.below(90));
  }
  return text;
}

struct Format {
  const char* name;
  const char* extension;
  std::string (*pack)(std::string_view);
};

class Packed : public testing::TestWithParam<Format> {
 protected:
  std::filesystem::path put(std::string_view content) const {
    const auto path = folder_ / (std::string("a.txt") + GetParam().extension);
    put_file(path, content);
    return path;
  }
  TempFolder folder_;
};

TEST_P(Packed, ReadsWhatWasWritten) {
  const std::string text = long_text();
  EXPECT_EQ(read_all(put(GetParam().pack(text))), text);
  EXPECT_EQ(read_all(put(GetParam().pack("abc")), 1), "abc");
  EXPECT_EQ(read_all(put(GetParam().pack(""))), "");
  const std::string zeros(3'000'000, '\0');
  EXPECT_EQ(read_all(put(GetParam().pack(zeros)), 1 << 16), zeros) << "much comes out of few bytes";
}

TEST_P(Packed, ReadsArchivesBehindEachOther) {
  const std::string padding(4, '\0');
  const std::string packed = GetParam().pack("one ") + GetParam().pack("") + padding + GetParam().pack("two");
  EXPECT_EQ(read_all(put(packed)), "one two");
  EXPECT_EQ(read_all(put(packed + padding)), "one two");
}

TEST_P(Packed, IsKnownByItsFirstBytes) {
  put_file(folder_ / "a.txt", GetParam().pack("abc"));
  EXPECT_EQ(read_all(folder_ / "a.txt"), "abc");
}

TEST_P(Packed, IsRefusedWhereverItIsCutShort) {
  const std::string packed = GetParam().pack(std::string(long_text(), 0, 3000));
  for (size_t size = 1; size < packed.size(); size += size < 40 || size + 40 > packed.size() ? 1 : 97) {
    const std::string message = error_of([&] { read_all(put(packed.substr(0, size))); });
    EXPECT_TRUE(contains(message, "a.txt")) << size;
    EXPECT_TRUE(contains(message, "cut short: found its end after " + std::to_string(size) + " bytes"));
  }
  EXPECT_TRUE(contains(error_of([&] { read_all(put("")); }), "the file is empty"));
}

TEST_P(Packed, NeverGivesOtherBytesForCorruptOnes) {
  const std::string text(long_text(), 0, 2000), packed = GetParam().pack(text);
  int refused = 0;
  for (size_t place = 0; place < packed.size(); place += 3) {
    std::string corrupt = packed;
    corrupt[place] = static_cast<char>(corrupt[place] ^ 0x10);
    try {
      // A header's unused bits, such as a gzip header's time, may change; the content may not.
      EXPECT_EQ(read_all(put(corrupt)), text) << place;
    } catch (const Error& error) {
      ++refused;
      EXPECT_TRUE(contains(error.what(), "a.txt"));
    }
  }
  EXPECT_GT(refused, static_cast<int>(packed.size() / 3 - 8));
}

TEST_P(Packed, RefusesWhatFollowsAnArchive) {
  const std::string message = error_of([&] { read_all(put(GetParam().pack("abc") + "garbage, and some more of it")); });
  EXPECT_TRUE(contains(message, GetParam().name));
}

TEST_P(Packed, IsRefusedWhereOnlyTheNameIsRight) {
  const std::string message = error_of([&] { read_all(put("This is plain text, and it is long enough.")); });
  EXPECT_TRUE(contains(message, GetParam().name));
}

INSTANTIATE_TEST_SUITE_P(Each, Packed,
                         testing::Values(Format{"xz", ".xz", pack_xz}, Format{"gzip", ".gz", pack_gzip},
                                         Format{"zstd", ".zst", pack_zstd}),
                         [](const auto& format) { return format.param.name; });

TEST(ByteStream, ReadsPlainFiles) {
  const TempFolder folder;
  for (const std::string& text : {std::string(), std::string("abc"), long_text()}) {
    put_file(folder / "a.txt", text);
    EXPECT_EQ(read_all(folder / "a.txt"), text);
    EXPECT_EQ(read_all(folder / "a.txt", 7), text);
  }
}

TEST(ByteStream, NamesWhatCannotBeRead) {
  const TempFolder folder;
  EXPECT_TRUE(contains(error_of([&] { open_bytes(folder / "gone.txt"); }), "gone.txt: cannot open: No such file"));
  EXPECT_TRUE(contains(error_of([&] { open_bytes(folder.path()); }), "Is a directory"));
}

}  // namespace
}  // namespace retrosparse
