#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "data/sample.h"
#include "tasks/task_suite.h"

namespace retrosparse {

/// Retrieval tasks to train on, in turn; the answers are the labels.
class TaskSource : public SampleSource {
 public:
  /// The suite's running text should be training text. Error: no task, one of a name that there is not, or one that
  /// does not fit into the context (found by making a sample of each).
  TaskSource(TaskContext context, std::vector<std::string> tasks, int64_t context_length, uint64_t seed);

  Sample sample(int64_t index) override;
  int64_t context_length() const override { return context_length_; }
  std::string fingerprint() const override;

 private:
  TaskSuite suite_;
  std::vector<std::string> tasks_;
  int64_t context_length_;
  uint64_t seed_;
};

}  // namespace retrosparse
