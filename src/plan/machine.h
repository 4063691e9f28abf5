#pragma once
#include <string>

#include "plan/hardware.h"

namespace retrosparse {

/// What a conversion runs on, as fast as it really gets there: not the datasheet but what our programs reach.
struct Machine {
  std::string name;
  double memory_bytes = 0;
  double product_flops_per_second = 0;  ///< of matrix products and attention in the dtype of the weights
  double float32_flops_per_second = 0;
  double bytes_per_second = 0;
  double launch_seconds = 0;         ///< that one tensor operation takes, however small: dispatch, and launch on a GPU
  double base_bytes = 0;             ///< held before the first tensor of a model
  double product_scratch_bytes = 0;  ///< that the library of matrix products keeps, once for each thread that calls it
  bool is_cpu = false;
  bool has_own_kernels = false;  ///< compute capability 9.0, for which kernels/sm90 is made
};

/// A GPU of the table, with weights of `element_size` bytes.
Machine machine_of(const Gpu& gpu, double element_size);

/// The CPU that this program runs on; its speed is measured, which takes a fraction of a second.
Machine this_cpu();

}  // namespace retrosparse
