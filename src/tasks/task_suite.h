#pragma once
#include <cstdint>
#include <string>

#include "tasks/task_builder.h"
#include "tasks/task_sample.h"

namespace retrosparse {

/// Samples of retrieval tasks, each of which is a function of seed, task, length and index.
class TaskSuite {
 public:
  /// The suite keeps to lengths of at most max_length tokens: what the model was made for.
  TaskSuite(TaskContext context, uint64_t seed, int64_t max_length);

  /// A sample of exactly `length` tokens. Error (which names the task): there is no such task; the length is above
  /// max_length or too short for the task; there is too little running text.
  TaskSample sample(const std::string& task, int64_t length, int64_t index) const;

  const TaskFormats& formats() const { return *context_.formats; }
  const TaskContext& context() const { return context_; }

 private:
  TaskContext context_;
  uint64_t seed_;
  int64_t max_length_;
};

}  // namespace retrosparse
