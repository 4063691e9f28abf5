#include "distill/teacher.h"

#include <ATen/ops/topk.h>
#include <fmt/format.h>

#include <algorithm>

#include "base/error.h"
#include "checkpoint/safetensors.h"
#include "checkpoint/safetensors_writer.h"

namespace retrosparse {

LabelRows distillation_rows(const Sample& sample, LocalWindow local, int64_t count) {
  const int64_t length = static_cast<int64_t>(sample.ids.size());
  std::vector<TokenRange> labels = sample.labels;
  if (labels.empty()) {
    labels.push_back({1, length});
  }
  LabelRows rows;
  for (const TokenRange& range : labels) {
    for (int64_t position = std::max(range.begin, local.window + local.sink_tokens + 1); position < range.end;
         ++position) {
      rows.rows.push_back(position - 1);
      rows.targets.push_back(sample.ids[static_cast<size_t>(position)]);
    }
  }
  const auto surplus = static_cast<std::ptrdiff_t>(rows.rows.size()) - static_cast<std::ptrdiff_t>(count);
  if (surplus > 0) {
    rows.rows.erase(rows.rows.begin(), rows.rows.begin() + surplus);
    rows.targets.erase(rows.targets.begin(), rows.targets.begin() + surplus);
  }
  return rows;
}

TeacherAnswers::TeacherAnswers(std::filesystem::path folder, int64_t top_k, int64_t label_rows)
    : folder_(std::move(folder)), top_k_(top_k), label_rows_(label_rows) {}

std::filesystem::path TeacherAnswers::path_of(int64_t document) const {
  return folder_ / fmt::format("{:06}.safetensors", document);
}

bool TeacherAnswers::has(int64_t document) const {
  return std::filesystem::exists(path_of(document));
}

void TeacherAnswers::ask(const Model& teacher, int64_t document, const Sample& sample, LocalWindow local,
                         int64_t prefill_chunk) const {
  const LabelRows labels = distillation_rows(sample, local, label_rows_);
  if (labels.rows.empty()) {
    return;
  }
  const at::Tensor logits = dense_label_logits(teacher, sample.ids, labels, prefill_chunk);
  const auto [values, ids] = at::topk(logits, std::min(top_k_, logits.size(-1)), -1);
  std::filesystem::create_directories(folder_);
  write_safetensors(path_of(document), {{"logits", values}, {"ids", ids}});
}

TeacherRows TeacherAnswers::read(int64_t document, at::Device device) const {
  const SafetensorsFile file(path_of(document));
  return {file.tensor("logits").to(device), file.tensor("ids").to(device)};
}

}  // namespace retrosparse
