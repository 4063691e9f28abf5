#pragma once
#include <memory>
#include <span>
#include <string_view>

namespace retrosparse {

/// The packed bytes at hand and the room for unpacked ones; Codec::decode moves both forward.
struct CodecBuffers {
  std::span<const char> input;
  std::span<char> output;
};

/// Unpacks one frame of a compressed file: an xz stream, a gzip member or a zstd frame. A file may hold several.
class Codec {
 public:
  virtual ~Codec() = default;

  /// Unpacks until the input is used up, the output is full, or the frame ends; true when it has ended. Error, without
  /// a file: the bytes are corrupt, or of a kind that the library cannot read.
  virtual bool decode(CodecBuffers& buffers) = 0;
};

std::unique_ptr<Codec> make_xz_codec();
std::unique_ptr<Codec> make_gzip_codec();
std::unique_ptr<Codec> make_zstd_codec();

/// A packed format: how its files are named, how they begin, and who reads them.
struct CompressedFormat {
  std::string_view name, extension, magic;
  std::unique_ptr<Codec> (*make_codec)();
};

/// xz, gzip and zstd.
std::span<const CompressedFormat> compressed_formats();

}  // namespace retrosparse
