#include "data/codec.h"

#include <lzma.h>
#include <zlib.h>
#include <zstd.h>

#include <new>
#include <string>

#include "base/error.h"

namespace retrosparse {

namespace {

/// Shared by liblzma and zlib, whose streams have the same four fields: runs one step of `work` on the buffers.
template <typename Byte, typename Stream, typename Work>
int run_step(Stream& stream, CodecBuffers& buffers, Work work) {
  constexpr size_t kMost = size_t{1} << 30;  // zlib counts in 32 bits
  const size_t room = std::min(buffers.output.size(), kMost), available = std::min(buffers.input.size(), kMost);
  // zlib's next_in is not const, and is not written to.
  stream.next_in = const_cast<Byte*>(reinterpret_cast<const Byte*>(buffers.input.data()));
  stream.avail_in = static_cast<decltype(stream.avail_in)>(available);
  stream.next_out = reinterpret_cast<Byte*>(buffers.output.data());
  stream.avail_out = static_cast<decltype(stream.avail_out)>(room);
  const int result = work(&stream);
  buffers.input = buffers.input.subspan(available - stream.avail_in);
  buffers.output = buffers.output.subspan(room - stream.avail_out);
  return result;
}

class XzCodec : public Codec {
 public:
  XzCodec() {
    constexpr uint64_t kMemoryLimit = uint64_t{1} << 30;  // `xz -9` needs 65 MiB to unpack
    if (lzma_stream_decoder(&stream_, kMemoryLimit, 0) != LZMA_OK) {
      throw std::bad_alloc();
    }
  }
  ~XzCodec() override { lzma_end(&stream_); }
  XzCodec(const XzCodec&) = delete;
  XzCodec& operator=(const XzCodec&) = delete;

  bool decode(CodecBuffers& buffers) override {
    switch (run_step<uint8_t>(stream_, buffers, [](lzma_stream* s) { return lzma_code(s, LZMA_RUN); })) {
      case LZMA_OK:
      case LZMA_BUF_ERROR:  // nothing to do for now
        return false;
      case LZMA_STREAM_END:
        return true;
      case LZMA_MEM_ERROR:
        throw std::bad_alloc();
      case LZMA_MEMLIMIT_ERROR:
        throw Error("the xz archive needs more than 1 GiB of memory to unpack");
      case LZMA_OPTIONS_ERROR:
        throw Error("the xz archive uses a filter that liblzma does not have");
      case LZMA_FORMAT_ERROR:
        throw Error("not in the xz format");
      default:
        throw Error("the xz archive is corrupt");
    }
  }

 private:
  lzma_stream stream_ = LZMA_STREAM_INIT;
};

class GzipCodec : public Codec {
 public:
  GzipCodec() {
    constexpr int kLargestWindow = 15, kGzipHeader = 16;
    if (inflateInit2(&stream_, kLargestWindow + kGzipHeader) != Z_OK) {
      throw std::bad_alloc();
    }
  }
  ~GzipCodec() override { inflateEnd(&stream_); }
  GzipCodec(const GzipCodec&) = delete;
  GzipCodec& operator=(const GzipCodec&) = delete;

  bool decode(CodecBuffers& buffers) override {
    switch (run_step<Bytef>(stream_, buffers, [](z_stream* s) { return inflate(s, Z_NO_FLUSH); })) {
      case Z_OK:
      case Z_BUF_ERROR:  // nothing to do for now
        return false;
      case Z_STREAM_END:
        return true;
      case Z_MEM_ERROR:
        throw std::bad_alloc();
      default:
        throw Error("the gzip archive is corrupt").found(stream_.msg != nullptr ? stream_.msg : "");
    }
  }

 private:
  z_stream stream_{};
};

class ZstdCodec : public Codec {
 public:
  ZstdCodec() : stream_(ZSTD_createDStream()) {
    constexpr int kLargestWindow = 30;  // 1 GiB; `zstd --ultra -22` writes 27
    if (stream_ == nullptr || ZSTD_isError(ZSTD_DCtx_setParameter(stream_, ZSTD_d_windowLogMax, kLargestWindow)) != 0) {
      throw std::bad_alloc();
    }
  }
  ~ZstdCodec() override { ZSTD_freeDStream(stream_); }
  ZstdCodec(const ZstdCodec&) = delete;
  ZstdCodec& operator=(const ZstdCodec&) = delete;

  bool decode(CodecBuffers& buffers) override {
    ZSTD_inBuffer input{buffers.input.data(), buffers.input.size(), 0};
    ZSTD_outBuffer output{buffers.output.data(), buffers.output.size(), 0};
    const size_t result = ZSTD_decompressStream(stream_, &output, &input);
    if (ZSTD_isError(result) != 0) {
      throw Error("the zstd archive is corrupt").found(ZSTD_getErrorName(result));
    }
    buffers.input = buffers.input.subspan(input.pos);
    buffers.output = buffers.output.subspan(output.pos);
    return result == 0;
  }

 private:
  ZSTD_DStream* stream_;
};

}  // namespace

std::unique_ptr<Codec> make_xz_codec() {
  return std::make_unique<XzCodec>();
}

std::unique_ptr<Codec> make_gzip_codec() {
  return std::make_unique<GzipCodec>();
}

std::unique_ptr<Codec> make_zstd_codec() {
  return std::make_unique<ZstdCodec>();
}

std::span<const CompressedFormat> compressed_formats() {
  using namespace std::string_view_literals;
  static constexpr CompressedFormat kFormats[] = {
      {"xz", ".xz", "\xFD\x37\x7A\x58\x5A\x00"sv, make_xz_codec},
      {"gzip", ".gz", "\x1F\x8B"sv, make_gzip_codec},
      {"zstd", ".zst", "\x28\xB5\x2F\xFD"sv, make_zstd_codec},
  };
  return kFormats;
}

}  // namespace retrosparse
