// Needles: facts in running text that are asked for at the end.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include "tasks/distinct_names.h"
#include "tasks/task_builder.h"

namespace retrosparse {

namespace {

struct Needle {
  std::string key, value;
};

void hide_needle(const Needle& needle, TaskBuilder& builder) {
  const std::string& statement = builder.random().pick(builder.formats().needles.statements);
  builder.hide(fill_in(statement, {{"k", needle.key}, {"v", needle.value}}));
}

}  // namespace

void add_task(const NeedlesTask& task, TaskBuilder& builder) {
  const NeedleFormat& format = builder.formats().needles;
  DistinctNames names(builder.formats(), builder.random());
  std::vector<Needle> needles;
  for (int64_t i = 0; i < task.needles; ++i) {
    needles.push_back({names.key(), names.number(builder.formats().value_digits)});
    hide_needle(needles.back(), builder);
  }
  builder.random().shuffle(needles);
  needles.resize(static_cast<size_t>(task.questions));
  for (const Needle& needle : needles) {
    builder.ask(fill_in(format.question, {{"k", needle.key}}));
    builder.answer(fill_in(format.answer, {{"v", needle.value}}));
  }
}

void add_task(const MultiValueTask& task, TaskBuilder& builder) {
  const NeedleFormat& format = builder.formats().needles;
  DistinctNames names(builder.formats(), builder.random());
  const std::string asked_key = names.key();
  std::vector<Needle> needles;
  for (int64_t i = 0; i < task.values + task.other_needles; ++i) {
    needles.push_back({i < task.values ? asked_key : names.key(), names.number(builder.formats().value_digits)});
  }
  builder.random().shuffle(needles);
  std::vector<std::string> values;  // in the order of appearance
  for (const Needle& needle : needles) {
    hide_needle(needle, builder);
    if (needle.key == asked_key) {
      values.push_back(needle.value);
    }
  }
  builder.ask(fill_in(format.question_for_all, {{"k", asked_key}}));
  builder.answer(fill_in(format.answer_for_all, {{"v", fmt::format("{}", fmt::join(values, format.separator))}}));
}

}  // namespace retrosparse
