#include "distill/teacher.h"

#include <ATen/ops/topk.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <iterator>
#include <span>

#include "base/error.h"
#include "base/hash.h"
#include "checkpoint/safetensors.h"
#include "checkpoint/safetensors_writer.h"

namespace retrosparse {

DistillationRows distillation_rows(const Sample& sample, LocalWindow local, RowsToLearn counts) {
  const auto length = static_cast<int64_t>(sample.ids.size());
  const int64_t first_far = local.window + local.sink_tokens;
  std::vector<TokenRange> labels = sample.labels;
  if (labels.empty()) {
    labels.push_back({1, length});
  }
  std::vector<int64_t> label_rows;
  for (const TokenRange& range : labels) {
    for (int64_t position = std::max(range.begin, first_far + 1); position < range.end; ++position) {
      label_rows.push_back(position - 1);
    }
  }
  const auto surplus =
      std::max<std::ptrdiff_t>(0, std::ssize(label_rows) - static_cast<std::ptrdiff_t>(counts.label_rows));
  label_rows.erase(label_rows.begin(), label_rows.begin() + surplus);

  DistillationRows learned;
  learned.sparse_from = label_rows.empty() ? length : label_rows.front();
  const int64_t prompt_end = std::min(learned.sparse_from, length - 1);  // the last token predicts nothing
  const int64_t prompt_rows = std::max<int64_t>(prompt_end - first_far, 0);
  learned.num_prompt = std::min(counts.prompt_rows, prompt_rows);
  std::vector<int64_t>& rows = learned.rows.rows;
  for (int64_t i = 0; i < learned.num_prompt; ++i) {
    rows.push_back(first_far + prompt_rows * i / learned.num_prompt);
  }
  rows.insert(rows.end(), label_rows.begin(), label_rows.end());
  for (const int64_t row : rows) {
    learned.rows.targets.push_back(sample.ids[static_cast<size_t>(row + 1)]);
  }
  return learned;
}

namespace {

// Of what the dense model said: a damaged file would teach something else.
std::string digest_of(int64_t document, const at::Tensor& logits, const at::Tensor& ids) {
  Hasher hasher;
  hasher.update(std::to_string(document));
  for (const at::Tensor& tensor : {logits.contiguous(), ids.contiguous()}) {
    hasher.update(std::as_bytes(std::span(static_cast<const char*>(tensor.const_data_ptr()), tensor.nbytes())));
  }
  return hasher.hex();
}

}  // namespace

TeacherAnswers::TeacherAnswers(std::filesystem::path folder, int64_t top_k, RowsToLearn rows)
    : folder_(std::move(folder)), top_k_(top_k), rows_(rows) {}

std::filesystem::path TeacherAnswers::path_of(int64_t document) const {
  return folder_ / fmt::format("{:06}.safetensors", document);
}

bool TeacherAnswers::has(int64_t document) const {
  return std::filesystem::exists(path_of(document));
}

void TeacherAnswers::ask(const Model& teacher, int64_t document, const Sample& sample, LocalWindow local,
                         int64_t prefill_chunk) const {
  const DistillationRows learned = distillation_rows(sample, local, rows_);
  if (learned.rows.rows.empty()) {
    return;
  }
  const at::Tensor logits = dense_label_logits(teacher, sample.ids, learned.rows, prefill_chunk);
  const auto [values, ids] = at::topk(logits, std::min(top_k_, logits.size(-1)), -1);
  std::filesystem::create_directories(folder_);
  const at::Tensor logits_on_cpu = values.cpu(), ids_on_cpu = ids.cpu();
  write_safetensors(path_of(document), {{"logits", logits_on_cpu}, {"ids", ids_on_cpu}},
                    {{"digest", digest_of(document, logits_on_cpu, ids_on_cpu)}});
}

TeacherRows TeacherAnswers::read(int64_t document, size_t num_rows, at::Device device) const {
  const SafetensorsFile file(path_of(document));
  const at::Tensor logits = file.tensor("logits"), ids = file.tensor("ids");
  for (const at::Tensor& tensor : {logits, ids}) {
    if (tensor.dim() != 2 || tensor.size(0) != static_cast<int64_t>(num_rows)) {
      throw Error("the dense model's answers are of another run")
          .file(path_of(document).string())
          .expected(fmt::format("{} rows", num_rows))
          .found(fmt::format("[{}]", fmt::join(tensor.sizes(), ", ")));
    }
  }
  const auto digest = file.metadata().find("digest");
  if (digest == file.metadata().end() || digest->second != digest_of(document, logits, ids)) {
    throw Error("damaged: it is not what the dense model said")
        .file(path_of(document).string())
        .hint("remove this file, and the dense model is asked again");
  }
  return {logits.to(device), ids.to(device)};
}

}  // namespace retrosparse
