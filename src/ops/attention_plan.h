#pragma once
#include <retrosparse_kernels/head_mode.h>

#include <cstdint>
#include <vector>

namespace retrosparse::ops {

/// What each query head of a layer attends to; see <retrosparse_kernels/head_mode.h>.
struct AttentionPlan {
  std::vector<kernels::HeadMode> head_modes;  ///< one for each query head
  int32_t sink_tokens = 0;
  int32_t window = 1;  ///< the query itself included

  /// The heads of kSelected, ascending.
  std::vector<int32_t> selected_heads() const {
    std::vector<int32_t> heads;
    for (size_t h = 0; h < head_modes.size(); ++h) {
      if (head_modes[h] == kernels::HeadMode::kSelected) {
        heads.push_back(static_cast<int32_t>(h));
      }
    }
    return heads;
  }
};

}  // namespace retrosparse::ops
