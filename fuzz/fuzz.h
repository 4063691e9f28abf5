#pragma once
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <span>
#include <string_view>

#include "base/error.h"

/// A fuzz target: the code that follows is run on arbitrary bytes. It may throw Error, since that is how bad input is
/// refused; any other exception, a failed fuzz_check, a sanitizer's complaint or an input that takes ten seconds is a
/// bug.
///   RETROSPARSE_FUZZ_TARGET(bytes) { parse(bytes); }
/// The entry point is libFuzzer's; where the compiler is not clang, standalone.cpp calls it.
#define RETROSPARSE_FUZZ_TARGET(bytes)                                               \
  static void fuzz_one(std::span<const std::byte> bytes);                            \
  extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {          \
    try {                                                                            \
      fuzz_one(std::as_bytes(std::span(data, size)));                                \
    } catch (const retrosparse::Error& error) {                                      \
      retrosparse::fuzz_check(*error.what() != '\0', "an Error says what is wrong"); \
    }                                                                                \
    return 0;                                                                        \
  }                                                                                  \
  static void fuzz_one(std::span<const std::byte> bytes)

namespace retrosparse {

/// Ends the process, and so reports the input, when something does not hold that has to hold for every input.
inline void fuzz_check(bool holds, const char* what) {
  if (!holds) {
    std::fprintf(stderr, "does not hold: %s\n", what);
    std::abort();
  }
}

inline std::string_view as_text(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

}  // namespace retrosparse
