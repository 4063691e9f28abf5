#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/random.h"
#include "data/sample.h"
#include "data/text_pool.h"
#include "tasks/task_formats.h"
#include "text/tokenizer.h"

namespace retrosparse {

/// What all samples of a suite are made from. Cheap to copy.
struct TaskContext {
  Tokenizer tokenizer;
  std::shared_ptr<const TextPool> text;  ///< the haystack
  std::shared_ptr<const TaskFormats> formats;

  /// The ids of a text, without special tokens around it; those that are spelt out in it are taken for such.
  std::vector<int64_t> encode(std::string_view piece) const;

  /// What every sample begins with: the tokenizer's special tokens and the prologue.
  std::vector<int64_t> beginning() const;
};

/// Puts a sample together: blocks at random places in running text, then questions and answers. Each piece is tokenized
/// on its own. Running text takes whatever room is left, so the sample has exactly the asked length.
class TaskBuilder {
 public:
  /// Keeps references to all of these.
  TaskBuilder(const TaskContext& context, int64_t length, Random& random);

  /// A block in the running text, behind those that were hidden before it.
  void hide(std::vector<int64_t> block);
  void hide(std::string_view block) { hide(context_.encode(block)); }

  /// Further tokens at the end: a question.
  void ask(const std::vector<int64_t>& question);
  void ask(std::string_view question) { ask(context_.encode(question)); }

  /// Further tokens at the end: an answer, which is scored.
  void answer(const std::vector<int64_t>& tokens);
  void answer(std::string_view text) { answer(context_.encode(text)); }

  /// The last `count` tokens of running text are scored. Only without questions and answers.
  void score_running_text(int64_t count) { scored_text_ = count; }

  /// Tokens that are left for running text; negative when the sample does not fit.
  int64_t room() const { return length_ - used_; }

  const TaskContext& context() const { return context_; }
  const TaskFormats& formats() const { return *context_.formats; }
  int64_t length() const { return length_; }
  Random& random() { return random_; }

  struct Built {
    std::vector<int64_t> ids;
    std::vector<TokenRange> answers;
  };

  /// Error: the sample does not fit into its length (says how much it needs), or there is too little running text.
  Built build() const;

 private:
  const TaskContext& context_;
  int64_t length_;
  Random& random_;
  std::vector<int64_t> beginning_, end_;  // before and behind the running text
  std::vector<std::vector<int64_t>> blocks_;
  std::vector<TokenRange> answers_;  // in end_
  int64_t scored_text_ = 0;
  int64_t used_;  // tokens in all of these
};

/// Adds what a sample of each kind consists of.
void add_task(const NeedlesTask& task, TaskBuilder& builder);
void add_task(const MultiValueTask& task, TaskBuilder& builder);
void add_task(const KeyValueTask& task, TaskBuilder& builder);
void add_task(const VariableTrackingTask& task, TaskBuilder& builder);
void add_task(const CopyTask& task, TaskBuilder& builder);
void add_task(const RunningTextTask& task, TaskBuilder& builder);

}  // namespace retrosparse
