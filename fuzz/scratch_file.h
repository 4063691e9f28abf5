#pragma once
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>

namespace retrosparse {

/// A folder in memory, where there is such a file system, that goes away with the process.
class ScratchFolder {
 public:
  ScratchFolder() {
    std::error_code ignored;
    const std::filesystem::path memory = "/dev/shm";
    const bool writable = std::filesystem::exists(memory, ignored) && ::access(memory.c_str(), W_OK) == 0;
    std::string pattern = ((writable ? memory : std::filesystem::temp_directory_path()) / "fuzz-XXXXXX").string();
    path_ = ::mkdtemp(pattern.data());
  }
  ~ScratchFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  ScratchFolder(const ScratchFolder&) = delete;
  ScratchFolder& operator=(const ScratchFolder&) = delete;
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

/// A file of this name and content, for parsers that read files.
inline std::filesystem::path scratch_file(const std::string& name, std::string_view content) {
  static const ScratchFolder folder;
  const std::filesystem::path path = folder.path() / name;
  std::ofstream(path, std::ios::binary).write(content.data(), static_cast<std::streamsize>(content.size()));
  return path;
}

}  // namespace retrosparse
