#pragma once
#include <cstdint>
#include <initializer_list>
#include <string_view>
#include <utility>
#include <vector>

namespace retrosparse {

/// A 64-bit number for a name, to be one of the seeds of a Random (FNV-1a, draft-eastlake-fnv).
constexpr uint64_t seed_of(std::string_view name) {
  uint64_t hash = 0xCBF29CE484222325u;
  for (const char byte : name) {
    hash = (hash ^ static_cast<unsigned char>(byte)) * 0x100000001B3u;
  }
  return hash;
}

/// Random numbers that are the same on every machine and with every standard library, which std's distributions are
/// not. Each list of seeds gives a stream of its own, so that e.g. {seed, epoch} needs no stored state. The generator
/// is SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, OOPSLA 2014).
class Random {
 public:
  explicit Random(std::initializer_list<uint64_t> seeds) {
    for (const uint64_t seed : seeds) {
      state_ = mix(state_ + kStep) ^ seed;
      state_ = mix(state_);
    }
  }

  /// Uniform over all 64-bit numbers.
  uint64_t next() { return mix(state_ += kStep); }

  /// Uniform over [0, bound); bound > 0. Unbiased: numbers of the last, incomplete round are drawn again.
  uint64_t below(uint64_t bound) {
    const uint64_t incomplete = (0 - bound) % bound;  // 2^64 mod bound
    uint64_t number = next();
    while (number < incomplete) {
      number = next();
    }
    return number % bound;
  }

  /// Uniform over [low, high], both included; low <= high.
  int64_t between(int64_t low, int64_t high) {
    const uint64_t span = static_cast<uint64_t>(high) - static_cast<uint64_t>(low);
    return static_cast<int64_t>(static_cast<uint64_t>(low) + (span == UINT64_MAX ? next() : below(span + 1)));
  }

  /// Uniform over [0, 1), in steps of 2^-53.
  double uniform() { return static_cast<double>(next() >> 11) * 0x1p-53; }

  /// One of the elements; there has to be one.
  template <typename T>
  const T& pick(const std::vector<T>& from) {
    return from[below(from.size())];
  }

  /// Every order is equally likely (Fisher-Yates).
  template <typename T>
  void shuffle(std::vector<T>& elements) {
    for (size_t left = elements.size(); left > 1; --left) {
      std::swap(elements[left - 1], elements[below(left)]);
    }
  }

 private:
  static constexpr uint64_t kStep = 0x9E3779B97F4A7C15u;

  static constexpr uint64_t mix(uint64_t z) {
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
  }

  uint64_t state_ = 0;
};

}  // namespace retrosparse
