#pragma once
#include <cstdint>

namespace retrosparse::kernels {

/// What a query head sees of the keys at or before a query's own position.
enum class HeadMode : uint8_t {
  kLocal,     ///< the first `sink_tokens` keys (sinks) and the latest `window` keys
  kDense,     ///< all of them
  kSelected,  ///< as kLocal, and what was selected for the query: 64-key tiles in prefill, single keys in decode
};

}  // namespace retrosparse::kernels
