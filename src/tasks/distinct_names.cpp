#include "tasks/distinct_names.h"

#include <fmt/format.h>

#include <cmath>

#include "base/error.h"

namespace retrosparse {

template <typename Draw>
std::string DistinctNames::draw_new(std::set<std::string>& taken, double possible, const char* what, Draw draw) {
  if (static_cast<double>(taken.size()) >= possible) {
    throw Error(fmt::format("one sample needs more different {} than there are", what))
        .file(formats_.name)
        .found(fmt::format("{:.0f}", possible));
  }
  while (true) {
    std::string name = draw();
    if (taken.insert(name).second) {
      return name;
    }
  }
}

std::string DistinctNames::key() {
  const auto count = static_cast<uint64_t>(formats_.keys.count());
  return draw_new(keys_, static_cast<double>(count), "keys",
                  [&] { return formats_.keys.key(static_cast<int64_t>(random_.below(count))); });
}

std::string DistinctNames::key_with_ending() {
  const std::string& endings = formats_.key_value.key_endings;
  const auto count = static_cast<uint64_t>(formats_.keys.count());
  return draw_new(keys_with_ending_, static_cast<double>(count * endings.size()), "keys", [&] {
    return formats_.keys.key(static_cast<int64_t>(random_.below(count))) + endings[random_.below(endings.size())];
  });
}

std::string DistinctNames::number(int64_t digits) {
  const auto least = static_cast<int64_t>(std::llround(std::pow(10.0, static_cast<double>(digits - 1))));
  return draw_new(numbers_, 9 * static_cast<double>(least), "numbers",
                  [&] { return std::to_string(random_.between(least, 10 * least - 1)); });
}

std::string DistinctNames::capitals(int64_t letters) {
  constexpr uint64_t kLetters = 26;
  return draw_new(capitals_, std::pow(kLetters, static_cast<double>(letters)), "variable names", [&] {
    std::string name;
    for (int64_t i = 0; i < letters; ++i) {
      name += static_cast<char>('A' + random_.below(kLetters));
    }
    return name;
  });
}

}  // namespace retrosparse
