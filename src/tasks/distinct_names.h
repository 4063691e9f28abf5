#pragma once
#include <cstdint>
#include <set>
#include <string>

#include "base/random.h"
#include "tasks/task_formats.h"

namespace retrosparse {

/// Random keys, numbers and variable names of one sample, none of which comes twice.
class DistinctNames {
 public:
  DistinctNames(const TaskFormats& formats, Random& random) : formats_(formats), random_(random) {}

  /// A key of the formats' words. Error: there is no further one.
  std::string key();

  /// The same with one of the key endings behind it, for many keys.
  std::string key_with_ending();

  /// A number of so many digits, the first of which is not zero. Error: there is no further one.
  std::string number(int64_t digits);

  /// So many capital letters. Error: there is no further such name.
  std::string capitals(int64_t letters);

 private:
  template <typename Draw>
  std::string draw_new(std::set<std::string>& taken, double possible, const char* what, Draw draw);

  const TaskFormats& formats_;
  Random& random_;
  std::set<std::string> keys_, keys_with_ending_, numbers_, capitals_;
};

}  // namespace retrosparse
