#include "tasks/task_builder.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/error.h"

namespace retrosparse {

std::vector<int64_t> TaskContext::encode(std::string_view piece) const {
  return tokenizer.encode(piece, {.add_special_tokens = false, .parse_special = true});
}

std::vector<int64_t> TaskContext::beginning() const {
  std::vector<int64_t> ids = text->special().begin_of_text;
  const std::vector<int64_t> prologue = encode(formats->prologue);
  ids.insert(ids.end(), prologue.begin(), prologue.end());
  return ids;
}

TaskBuilder::TaskBuilder(const TaskContext& context, int64_t length, Random& random)
    : context_(context),
      length_(length),
      random_(random),
      beginning_(context.beginning()),
      used_(static_cast<int64_t>(beginning_.size())) {}

void TaskBuilder::hide(std::vector<int64_t> block) {
  used_ += static_cast<int64_t>(block.size());
  blocks_.push_back(std::move(block));
}

void TaskBuilder::ask(const std::vector<int64_t>& question) {
  used_ += static_cast<int64_t>(question.size());
  end_.insert(end_.end(), question.begin(), question.end());
}

void TaskBuilder::answer(const std::vector<int64_t>& tokens) {
  const auto begin = static_cast<int64_t>(end_.size());
  ask(tokens);
  answers_.push_back({begin, static_cast<int64_t>(end_.size())});
}

TaskBuilder::Built TaskBuilder::build() const {
  const int64_t text_needed = std::max<int64_t>(1, scored_text_ + 1);  // no answer may be a sample's first token
  if (room() < text_needed) {
    throw Error("a sample of this task does not fit into the length")
        .expected(fmt::format("at least {} tokens", used_ + text_needed))
        .found(fmt::format("{} tokens", length_));
  }
  const std::vector<int64_t> text = context_.text->take(room(), random_).ids;
  std::vector<int64_t> places;
  for (size_t i = 0; i < blocks_.size(); ++i) {
    places.push_back(random_.between(0, room()));
  }
  std::ranges::sort(places);

  Built built{beginning_, {}};
  built.ids.reserve(static_cast<size_t>(length_));
  int64_t copied = 0;
  const auto copy_text = [&](int64_t end) {
    built.ids.insert(built.ids.end(), text.begin() + copied, text.begin() + end);
    copied = end;
  };
  for (size_t i = 0; i < blocks_.size(); ++i) {
    copy_text(places[i]);
    built.ids.insert(built.ids.end(), blocks_[i].begin(), blocks_[i].end());
  }
  copy_text(room());
  const auto end_begins = static_cast<int64_t>(built.ids.size());
  built.ids.insert(built.ids.end(), end_.begin(), end_.end());
  for (const TokenRange& answer : answers_) {
    built.answers.push_back({end_begins + answer.begin, end_begins + answer.end});
  }
  if (scored_text_ > 0) {
    built.answers.push_back({end_begins - scored_text_, end_begins});
  }
  return built;
}

}  // namespace retrosparse
