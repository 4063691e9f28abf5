#pragma once
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "base/error.h"

namespace retrosparse {

/// An Error about a failed system call on `path`: "PATH: cannot ACTION: No space left on device". Reads errno.
Error file_error(const std::filesystem::path& path, std::string_view action);

/// The whole content of a regular file. Error: missing, unreadable, a folder, a pipe or a device (whose end may never
/// come).
std::string read_text(const std::filesystem::path& path);

/// The same for what the user names as input: a pipe or a device is read to its end, too.
std::string read_text_or_pipe(const std::filesystem::path& path);

/// A regular file mapped into memory for reading. Copies share one mapping, which lives as long as the last of them.
/// Nobody may shorten the file meanwhile: reading behind its new end would raise SIGBUS.
class MappedFile {
 public:
  /// Error: missing, unreadable, not a regular file. An empty file is fine and has no data.
  explicit MappedFile(const std::filesystem::path& path);

  std::span<const std::byte> data() const { return {mapping_.get(), size_}; }
  uint64_t size() const { return size_; }
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
  size_t size_ = 0;
  std::shared_ptr<const std::byte> mapping_;  // null for an empty file
};

/// A file that appears under its name complete or not at all. What is written goes to `<path>.retrosparse-tmp-XXXXXX`
/// beside it; commit() makes that durable and renames it into place. Without a commit whatever existed under the name
/// stays as it was and the temporary file is removed. Not buffered: write large pieces.
class AtomicFile {
 public:
  /// Follows a symbolic link, so that what it points to is replaced and not the link. Error: the folder is missing or
  /// not writable; the path exists and is not a regular file (a folder, a device).
  explicit AtomicFile(const std::filesystem::path& path);
  ~AtomicFile();
  AtomicFile(AtomicFile&& other) noexcept;
  AtomicFile& operator=(AtomicFile&&) = delete;

  /// Appends. Error: disk full or any other failure of the system, in its words.
  void write(std::span<const std::byte> bytes);
  void write(std::string_view text) { write(std::as_bytes(std::span(text))); }

  /// fsync, rename, fsync of the folder. Nothing may be written after it.
  void commit();

 private:
  std::filesystem::path target_, temporary_;
  int descriptor_ = -1;  // -1 once committed or moved from
};

/// AtomicFile for a text that is at hand.
void write_atomically(const std::filesystem::path& path, std::string_view text);

/// A folder of files that appears under its name complete or not at all: fill staging(), then commit(). Without a
/// commit the staging folder is removed and an existing target stays as it was.
class AtomicFolder {
 public:
  /// Creates the staging folder `<target>.retrosparse-tmp-XXXXXX` and whatever parents are missing. An existing target
  /// that is not empty is an Error unless `replace`; then the two change places at commit and the old one is removed.
  /// (On file systems that cannot exchange folders a crash in between leaves the old one as
  /// `<target>.retrosparse-old-XXXXXX`.)
  explicit AtomicFolder(const std::filesystem::path& target, bool replace = false);
  ~AtomicFolder();
  AtomicFolder(const AtomicFolder&) = delete;
  AtomicFolder& operator=(const AtomicFolder&) = delete;

  const std::filesystem::path& staging() const { return staging_; }
  const std::filesystem::path& target() const { return target_; }

  /// Renames the staging folder into place. Error: a target that appeared meanwhile (without `replace`), or any failure
  /// of the system; the old target is then back under its name.
  void commit();

 private:
  void replace_in_two_steps(bool exists);

  std::filesystem::path target_, staging_, old_;
  bool replace_;
  bool committed_ = false;
};

/// Returns when what was written to a file is on the disk: for files that grow, which AtomicFile does not write. Error:
/// cannot be opened or synced.
void sync_to_disk(const std::filesystem::path& path);

}  // namespace retrosparse
