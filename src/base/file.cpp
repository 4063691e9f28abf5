#include "base/file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <system_error>
#include <utility>

#include "base/leftovers.h"

namespace retrosparse {

namespace fs = std::filesystem;

namespace {

/// Closes a descriptor at the end of a scope.
class Descriptor {
 public:
  explicit Descriptor(int value) : value_(value) {}
  ~Descriptor() {
    if (value_ >= 0) {
      ::close(value_);
    }
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return value_; }

 private:
  int value_;
};

/// Makes a rename in `folder` durable. Some file systems cannot sync folders; the rename itself is done by then, so a
/// failure here is not the writer's failure.
void sync_folder(const fs::path& folder) {
  const Descriptor descriptor(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (descriptor.get() >= 0) {
    (void)::fsync(descriptor.get());
  }
}

/// All that comes until the end of the file.
std::string read_to_end(int descriptor, const fs::path& path) {
  struct stat status {};
  std::string text;
  size_t used = 0;
  // One byte more than the file has, so that a regular file's end is seen without growing; pipes say 0 and grow.
  text.resize(::fstat(descriptor, &status) == 0 ? static_cast<size_t>(status.st_size) + 1 : 4096);
  while (true) {
    const ssize_t count = ::read(descriptor, text.data() + used, text.size() - used);
    if (count < 0 && errno != EINTR) {
      throw file_error(path, "read");
    }
    if (count == 0) {
      break;
    }
    used += count > 0 ? static_cast<size_t>(count) : 0;
    if (used == text.size()) {
      text.resize(std::max<size_t>(2 * used, 4096));
    }
  }
  text.resize(used);
  return text;
}

/// Opens a file for reading and asks what it is. Without O_NONBLOCK a named pipe would be waited for.
Descriptor open_without_waiting(const fs::path& path, struct stat& status) {
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (descriptor >= 0 && ::fstat(descriptor, &status) == 0) {
    return Descriptor(descriptor);
  }
  const Error error = file_error(path, "open");
  if (descriptor >= 0) {
    ::close(descriptor);
  }
  throw error;
}

}  // namespace

Error file_error(const fs::path& path, std::string_view action) {
  const int code = errno;
  return Error(fmt::format("cannot {}: {}", action, std::generic_category().message(code))).file(path.string());
}

std::string read_text(const fs::path& path) {
  struct stat status {};
  const Descriptor descriptor = open_without_waiting(path, status);
  if (!S_ISREG(status.st_mode) && !S_ISDIR(status.st_mode)) {  // reading a folder fails with the better message
    throw Error("not a regular file").file(path.string());
  }
  return read_to_end(descriptor.get(), path);
}

std::string read_text_or_pipe(const fs::path& path) {
  const Descriptor descriptor(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (descriptor.get() < 0) {
    throw file_error(path, "open");
  }
  return read_to_end(descriptor.get(), path);
}

MappedFile::MappedFile(const fs::path& path) : path_(path) {
  struct stat status {};
  const Descriptor descriptor = open_without_waiting(path, status);
  if (!S_ISREG(status.st_mode)) {
    throw Error("not a regular file").file(path.string());
  }
  size_ = static_cast<size_t>(status.st_size);
  if (size_ == 0) {
    return;  // mmap refuses an empty range
  }
  void* address = ::mmap(nullptr, size_, PROT_READ, MAP_SHARED, descriptor.get(), 0);
  if (address == MAP_FAILED) {
    throw file_error(path, "map into memory");
  }
  mapping_ = std::shared_ptr<const std::byte>(
      static_cast<const std::byte*>(address),
      [size = size_](const std::byte* data) { ::munmap(const_cast<std::byte*>(data), size); });
}

AtomicFile::AtomicFile(const fs::path& path) : target_(path) {
  std::error_code ignored;
  if (fs::is_symlink(path, ignored) && fs::exists(path, ignored)) {
    target_ = fs::canonical(path);
  }
  const fs::file_status status = fs::status(target_, ignored);
  if (fs::exists(status) && !fs::is_regular_file(status)) {
    // Renaming over a device would replace the device itself.
    throw Error("cannot write: exists and is not a regular file").file(path.string());
  }
  do {
    temporary_ = name_beside(target_, Leftover::kUnfinished);
    descriptor_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  } while (descriptor_ < 0 && errno == EEXIST);
  if (descriptor_ < 0) {
    throw file_error(path, "write");
  }
  if (fs::exists(status)) {  // who could not read the old file shall not read the new one
    (void)::fchmod(descriptor_, static_cast<mode_t>(status.permissions()));
  }
}

AtomicFile::AtomicFile(AtomicFile&& other) noexcept
    : target_(std::move(other.target_)),
      temporary_(std::move(other.temporary_)),
      descriptor_(std::exchange(other.descriptor_, -1)) {}

AtomicFile::~AtomicFile() {
  if (descriptor_ >= 0) {
    ::close(descriptor_);
    ::unlink(temporary_.c_str());
  }
}

void AtomicFile::write(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t count = ::write(descriptor_, bytes.data(), bytes.size());
    if (count >= 0) {
      bytes = bytes.subspan(static_cast<size_t>(count));
    } else if (errno != EINTR) {
      throw file_error(target_, "write");
    }
  }
}

void AtomicFile::commit() {
  if (::fsync(descriptor_) != 0) {
    throw file_error(target_, "write");
  }
  if (::rename(temporary_.c_str(), target_.c_str()) != 0) {
    throw file_error(target_, "put the new file in place");
  }
  ::close(std::exchange(descriptor_, -1));
  sync_folder(folder_of(target_));
}

void write_atomically(const fs::path& path, std::string_view text) {
  AtomicFile file(path);
  file.write(text);
  file.commit();
}

AtomicFolder::AtomicFolder(const fs::path& target, bool replace)
    : target_(fs::absolute(target).lexically_normal()), replace_(replace) {
  if (!target_.has_filename()) {  // "out/"
    target_ = target_.parent_path();
  }
  std::error_code problem;
  if (fs::exists(target_, problem)) {
    if (!fs::is_directory(target_)) {
      throw Error("exists and is not a folder").file(target.string());
    }
    if (!replace && !fs::is_empty(target_)) {
      throw Error("the folder exists and is not empty").file(target.string());
    }
  }
  staging_ = name_beside(target_, Leftover::kUnfinished);
  if (!fs::create_directories(staging_, problem)) {
    throw Error("cannot create the folder: " + problem.message()).file(target.string());
  }
}

AtomicFolder::~AtomicFolder() {
  if (!committed_) {
    std::error_code ignored;
    fs::remove_all(staging_, ignored);
  }
}

void AtomicFolder::commit() {
  sync_folder(staging_);
  std::error_code problem;
  const bool exists = replace_ && fs::exists(target_, problem);
  if (exists && ::renameat2(AT_FDCWD, staging_.c_str(), AT_FDCWD, target_.c_str(), RENAME_EXCHANGE) == 0) {
    std::swap(staging_, old_);
  } else {
    replace_in_two_steps(exists);
  }
  committed_ = true;
  sync_folder(folder_of(target_));
  if (!old_.empty()) {
    fs::remove_all(old_, problem);
  }
}

// For file systems that cannot exchange two folders, and where there is nothing to exchange.
void AtomicFolder::replace_in_two_steps(bool exists) {
  if (exists) {
    const fs::path old = name_beside(target_, Leftover::kMovedAside);
    if (::rename(target_.c_str(), old.c_str()) != 0) {
      throw file_error(target_, "move the old folder aside");
    }
    old_ = old;
  }
  // Without `replace` an empty folder is fine here, a filled one makes rename fail.
  if (::rename(staging_.c_str(), target_.c_str()) != 0) {
    const Error error = file_error(target_, "put the new folder in place");
    if (exists) {
      std::error_code ignored;
      fs::rename(old_, target_, ignored);
    }
    throw error;
  }
}

void sync_to_disk(const fs::path& path) {
  const Descriptor descriptor(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (descriptor.get() < 0 || ::fsync(descriptor.get()) != 0) {
    throw file_error(path, "write");
  }
}

}  // namespace retrosparse
