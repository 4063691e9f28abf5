#pragma once
#include <filesystem>
#include <memory>
#include <span>

namespace retrosparse {

/// Bytes that are read once, from the beginning to the end.
class ByteStream {
 public:
  virtual ~ByteStream() = default;

  /// Fills the beginning of `buffer`, which is not empty, and returns how many bytes that is; 0 at the end. Error: the
  /// file cannot be read, or is a compressed one that is corrupt or cut short (says where in it).
  virtual size_t read(std::span<char> buffer) = 0;
};

/// The content of a file, unpacked where its first bytes or its name (.xz, .gz, .zst) are those of xz, gzip or zstd.
/// Archives that were put one after another are read as one. Needs memory for a piece of the file at a time. Error:
/// missing, unreadable, a folder; an archive of no bytes.
std::unique_ptr<ByteStream> open_bytes(const std::filesystem::path& path);

}  // namespace retrosparse
