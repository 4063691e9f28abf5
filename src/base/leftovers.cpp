#include "base/leftovers.h"

#include <algorithm>
#include <random>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

namespace retrosparse {

namespace fs = std::filesystem;

namespace {

constexpr size_t kRandomLetters = 6;

std::string_view ending_of(Leftover kind) {
  return kind == Leftover::kUnfinished ? ".retrosparse-tmp-" : ".retrosparse-old-";
}

}  // namespace

fs::path name_beside(const fs::path& target, Leftover kind) {
  constexpr std::string_view kAlphabet = "abcdefghijklmnopqrstuvwxyz0123456789";
  thread_local std::mt19937_64 random{std::random_device{}()};
  std::string name = target.native();
  name += ending_of(kind);
  for (size_t i = 0; i < kRandomLetters; ++i) {
    name += kAlphabet[std::uniform_int_distribution<size_t>(0, kAlphabet.size() - 1)(random)];
  }
  return name;
}

fs::path folder_of(const fs::path& path) {
  return path.has_parent_path() ? path.parent_path() : fs::path(".");
}

void remove_leftovers(const fs::path& target) {
  std::error_code problem, ignored;
  const std::string name = target.filename().string();
  std::vector<fs::path> moved_aside, leftovers;
  for (auto entry = fs::directory_iterator(folder_of(target), problem); !problem && entry != fs::directory_iterator();
       entry.increment(problem)) {
    const std::string other = entry->path().filename().string();
    const auto is = [&](Leftover kind) {
      const std::string beginning = name + std::string(ending_of(kind));
      return other.starts_with(beginning) && other.size() == beginning.size() + kRandomLetters;
    };
    if (is(Leftover::kUnfinished)) {
      leftovers.push_back(entry->path());
    } else if (is(Leftover::kMovedAside)) {
      moved_aside.push_back(entry->path());
    }
  }
  if (!moved_aside.empty() && !fs::exists(target, ignored)) {  // killed between the two steps of AtomicFolder
    std::ranges::sort(moved_aside, {}, [&](const fs::path& path) { return fs::last_write_time(path, ignored); });
    fs::rename(moved_aside.back(), target, ignored);
  }
  if (fs::exists(target, ignored)) {  // else they are all that is left of it
    leftovers.insert(leftovers.end(), moved_aside.begin(), moved_aside.end());
  }
  for (const fs::path& path : leftovers) {
    fs::remove_all(path, ignored);
  }
}

}  // namespace retrosparse
