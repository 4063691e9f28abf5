#include "base/hash.h"

#include <fmt/format.h>

#include "base/file.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

namespace retrosparse {

struct Hasher::State {
  XXH3_state_t xxh3;  // 64-byte aligned, which C++17's new respects
};

Hasher::Hasher() : state_(std::make_unique<State>()) {
  XXH3_128bits_reset(&state_->xxh3);
}

Hasher::~Hasher() = default;
Hasher::Hasher(Hasher&&) noexcept = default;
Hasher& Hasher::operator=(Hasher&&) noexcept = default;

Hasher& Hasher::update(std::span<const std::byte> bytes) {
  XXH3_128bits_update(&state_->xxh3, bytes.data(), bytes.size());
  return *this;
}

std::string Hasher::hex() const {
  const XXH128_hash_t hash = XXH3_128bits_digest(&state_->xxh3);
  return fmt::format("{:016x}{:016x}", hash.high64, hash.low64);
}

std::string hash_text(std::string_view text) {
  return Hasher().update(text).hex();
}

std::string hash_file(const std::filesystem::path& path) {
  return Hasher().update(MappedFile(path).data()).hex();
}

}  // namespace retrosparse
