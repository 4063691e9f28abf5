#pragma once
#include <cstddef>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace retrosparse {

/// A streaming XXH3-128 hasher (https://github.com/Cyan4973/xxHash): tells whether an input has changed. Fast, and not
/// meant to resist somebody who wants a collision. The digest is what `xxhsum -H2` prints.
class Hasher {
 public:
  Hasher();
  ~Hasher();
  Hasher(Hasher&&) noexcept;
  Hasher& operator=(Hasher&&) noexcept;

  /// How the bytes are cut into calls makes no difference.
  Hasher& update(std::span<const std::byte> bytes);
  Hasher& update(std::string_view text) { return update(std::as_bytes(std::span(text))); }

  /// 32 lower-case hexadecimal digits for everything so far; more may follow.
  std::string hex() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// The digest of a text.
std::string hash_text(std::string_view text);

/// The digest of a file's content. Error: missing, unreadable, not a regular file.
std::string hash_file(const std::filesystem::path& path);

}  // namespace retrosparse
