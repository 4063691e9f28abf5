#include "tasks/task_suite.h"

#include <fmt/format.h>

#include <utility>

#include "base/error.h"

namespace retrosparse {

TaskSuite::TaskSuite(TaskContext context, uint64_t seed, int64_t max_length)
    : context_(std::move(context)), seed_(seed), max_length_(max_length) {}

TaskSample TaskSuite::sample(const std::string& task, int64_t length, int64_t index) const {
  const TaskKind& kind = formats().task(task);
  try {
    if (length > max_length_) {
      throw Error("the length is beyond the model's context")
          .expected(fmt::format("at most {} tokens", max_length_))
          .found(fmt::format("{} tokens", length));
    }
    Random random{seed_, seed_of(task), static_cast<uint64_t>(length), static_cast<uint64_t>(index)};
    TaskBuilder builder(context_, length, random);
    std::visit([&](const auto& one) { add_task(one, builder); }, kind);
    TaskBuilder::Built built = builder.build();
    return {task, index, seed_, std::move(built.ids), std::move(built.answers)};
  } catch (Error& error) {
    throw error.key(task);
  }
}

}  // namespace retrosparse
