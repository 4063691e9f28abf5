// Tasks other than needles: key-value data, copying, chains of variables, running text.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <utility>

#include "tasks/distinct_names.h"
#include "tasks/task_builder.h"

namespace retrosparse {

void add_task(const KeyValueTask& task, TaskBuilder& builder) {
  const KeyValueFormat& format = builder.formats().key_value;
  Random& random = builder.random();
  const double share = task.least_share + (task.most_share - task.least_share) * random.uniform();
  const int64_t room_behind = builder.room() - static_cast<int64_t>(share * static_cast<double>(builder.length()));
  DistinctNames names(builder.formats(), random);
  std::vector<std::pair<std::string, std::string>> pairs;
  builder.ask(format.opening);
  while (builder.room() > room_behind || pairs.empty()) {
    pairs.emplace_back(names.key_with_ending(), names.number(builder.formats().value_digits));
    builder.ask(fill_in(format.line, {{"k", pairs.back().first}, {"v", pairs.back().second}}));
  }
  builder.ask(format.closing);
  // Question after question, as long as another one leaves a token for the running text in front. At least one, so that
  // a length which is too short for any is found out by build().
  for (bool first = true;; first = false) {
    const auto& [key, value] = random.pick(pairs);
    const std::vector<int64_t> question = builder.context().encode(fill_in(format.question, {{"k", key}}));
    const std::vector<int64_t> answer = builder.context().encode(fill_in(format.answer, {{"v", value}}));
    if (!first && static_cast<int64_t>(question.size() + answer.size()) >= builder.room()) {
      return;
    }
    builder.ask(question);
    builder.answer(answer);
  }
}

void add_task(const CopyTask& task, TaskBuilder& builder) {
  const CopyFormat& format = builder.formats().copy;
  const TaskContext& context = builder.context();
  std::vector<int64_t> passage = context.text->take(task.passage_tokens.draw(builder.random()), builder.random()).ids;
  const std::vector<int64_t> after = context.encode(format.after);
  passage.insert(passage.end(), after.begin(), after.end());
  std::vector<int64_t> block = context.encode(format.before);
  block.insert(block.end(), passage.begin(), passage.end());
  builder.hide(std::move(block));
  builder.ask(format.question);
  builder.answer(passage);
}

void add_task(const VariableTrackingTask& task, TaskBuilder& builder) {
  const VariableFormat& format = builder.formats().variables;
  Random& random = builder.random();
  DistinctNames names(builder.formats(), random);
  struct Chain {
    std::string value;
    std::vector<std::string> variables;
    size_t stated = 0;
  };
  std::vector<Chain> chains(static_cast<size_t>(task.chains.draw(random)));
  std::vector<size_t> order;  // the chain of each statement
  for (size_t i = 0; i < chains.size(); ++i) {
    chains[i].value = names.number(format.value_digits);
    for (int64_t hops = task.hops.draw(random); hops >= 0; --hops) {
      chains[i].variables.push_back(names.capitals(format.name_letters));
      order.push_back(i);
    }
  }
  random.shuffle(order);
  for (const size_t i : order) {
    Chain& chain = chains[i];
    const std::string& name = chain.variables[chain.stated];
    const std::string statement = chain.stated == 0
                                      ? fill_in(format.first, {{"k", name}, {"v", chain.value}})
                                      : fill_in(format.next, {{"k", name}, {"v", chain.variables[chain.stated - 1]}});
    builder.hide(statement);
    ++chain.stated;
  }
  const Chain& asked = random.pick(chains);
  builder.ask(fill_in(format.question, {{"v", asked.value}}));
  builder.answer(fill_in(format.answer, {{"k", fmt::format("{}", fmt::join(asked.variables, format.separator))}}));
}

void add_task(const RunningTextTask& task, TaskBuilder& builder) {
  builder.score_running_text(task.scored_tokens);
}

}  // namespace retrosparse
