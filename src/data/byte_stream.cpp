#include "data/byte_stream.h"

#include <fmt/format.h>

#include <cerrno>
#include <cstdio>
#include <string>
#include <vector>

#include "base/file.h"
#include "data/codec.h"

namespace retrosparse {

namespace {

/// A file as it lies there, with a look at its first bytes.
class FileStream : public ByteStream {
 public:
  explicit FileStream(const std::filesystem::path& path) : path_(path), file_(std::fopen(path.c_str(), "rbe")) {
    if (file_ == nullptr) {
      throw file_error(path, "open");
    }
    constexpr size_t kLongestMagic = 6;
    beginning_.resize(kLongestMagic);
    beginning_.resize(read_file(beginning_));
  }

  size_t read(std::span<char> buffer) override {
    if (given_ < beginning_.size()) {
      const size_t count = beginning_.copy(buffer.data(), buffer.size(), given_);
      given_ += count;
      return count;
    }
    return read_file(buffer);
  }

  const std::string& beginning() const { return beginning_; }
  const std::filesystem::path& path() const { return path_; }

 private:
  size_t read_file(std::span<char> buffer) {
    errno = 0;
    const size_t count = std::fread(buffer.data(), 1, buffer.size(), file_.get());
    if (count < buffer.size() && std::ferror(file_.get()) != 0) {
      throw file_error(path_, "read");
    }
    return count;
  }

  struct Close {
    void operator()(std::FILE* file) const { std::fclose(file); }
  };

  std::filesystem::path path_;
  std::unique_ptr<std::FILE, Close> file_;
  std::string beginning_;
  size_t given_ = 0;  // bytes of beginning_ that were read from this stream
};

/// The frames of a compressed file, one after another.
class UnpackedStream : public ByteStream {
 public:
  UnpackedStream(std::unique_ptr<FileStream> file, const CompressedFormat& format)
      : file_(std::move(file)), format_(format), buffer_(kBufferSize), codec_(format.make_codec()) {}

  size_t read(std::span<char> output) override {
    CodecBuffers buffers{input_, output};
    while (buffers.output.size() == output.size()) {
      refill(buffers);
      if (codec_ == nullptr && !next_frame(buffers)) {
        break;
      }
      step(buffers);
    }
    input_ = buffers.input;
    return output.size() - buffers.output.size();
  }

 private:
  static constexpr size_t kBufferSize = size_t{1} << 18;

  void refill(CodecBuffers& buffers) {
    if (buffers.input.empty() && !at_end_) {
      const size_t count = file_->read(buffer_);
      at_end_ = count == 0;
      offset_ += count;
      buffers.input = std::span(buffer_).first(count);
    }
  }

  /// Begins the next frame behind whatever zero bytes pad the file; false at its end.
  bool next_frame(CodecBuffers& buffers) {
    while (!at_end_) {
      while (!buffers.input.empty() && buffers.input.front() == '\0') {
        buffers.input = buffers.input.subspan(1);
      }
      if (!buffers.input.empty()) {
        codec_ = format_.make_codec();
        return true;
      }
      refill(buffers);
    }
    return false;
  }

  void step(CodecBuffers& buffers) {
    const size_t input = buffers.input.size(), output = buffers.output.size();
    bool ended = false;
    try {
      ended = codec_->decode(buffers);
    } catch (Error& error) {
      throw error.file(file_->path().string()).hint(position(buffers));
    }
    if (ended) {
      codec_.reset();
    } else if (buffers.output.size() == output && at_end_) {
      throw Error(fmt::format("the {} archive is cut short", format_.name))
          .file(file_->path().string())
          .found(fmt::format("its end after {} bytes", offset_));
    } else if (buffers.output.size() == output && buffers.input.size() == input && input > 0) {
      throw Error(fmt::format("the {} archive is corrupt", format_.name))
          .file(file_->path().string())
          .hint(position(buffers));
    }
  }

  std::string position(const CodecBuffers& buffers) const {
    return fmt::format("about byte {} of the file", offset_ - buffers.input.size());
  }

  std::unique_ptr<FileStream> file_;
  const CompressedFormat& format_;
  std::vector<char> buffer_;
  std::span<const char> input_;   // what is left of the bytes in buffer_
  uint64_t offset_ = 0;           // in the file, of the end of buffer_'s bytes
  bool at_end_ = false;           // nothing follows buffer_'s bytes
  std::unique_ptr<Codec> codec_;  // null between two frames
};

}  // namespace

std::unique_ptr<ByteStream> open_bytes(const std::filesystem::path& path) {
  auto file = std::make_unique<FileStream>(path);
  for (const CompressedFormat& format : compressed_formats()) {
    if (file->beginning().starts_with(format.magic) || path.extension() == format.extension) {
      if (file->beginning().empty()) {
        throw Error("the file is empty").file(path.string());
      }
      return std::make_unique<UnpackedStream>(std::move(file), format);
    }
  }
  return file;
}

}  // namespace retrosparse
