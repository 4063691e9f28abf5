#include "tasks/task_source.h"

#include <fmt/format.h>

#include <span>
#include <utility>

#include "base/error.h"
#include "base/hash.h"

namespace retrosparse {

namespace {

// No sample of a validation with the same seed is trained on.
uint64_t training_seed(uint64_t seed) {
  return Random{seed, seed_of("tasks for training")}.next();
}

}  // namespace

TaskSource::TaskSource(TaskContext context, std::vector<std::string> tasks, int64_t context_length, uint64_t seed)
    : suite_(std::move(context), training_seed(seed), context_length),
      tasks_(std::move(tasks)),
      context_length_(context_length),
      seed_(seed) {
  if (tasks_.empty()) {
    throw Error("no task is given to train on");
  }
  for (size_t i = 0; i < tasks_.size(); ++i) {
    sample(static_cast<int64_t>(i));
  }
}

Sample TaskSource::sample(int64_t index) {
  const auto count = static_cast<int64_t>(tasks_.size());
  TaskSample sample = suite_.sample(tasks_[static_cast<size_t>(index % count)], context_length_, index / count);
  return {std::move(sample.ids), {0}, std::move(sample.answers)};
}

std::string TaskSource::fingerprint() const {
  Hasher hasher;
  hasher.update(fmt::format("tasks {} {}", context_length_, seed_));
  // The formats have no digest of their own: the first sample of each task tells them, and the text, apart.
  hasher.update(fingerprint_of(suite_.context().text->documents()));
  for (const std::string& task : tasks_) {
    const TaskSample first = suite_.sample(task, context_length_, 0);
    hasher.update(task).update(std::as_bytes(std::span(first.ids)));
  }
  return hasher.hex();
}

}  // namespace retrosparse
