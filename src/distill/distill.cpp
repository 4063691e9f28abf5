#include "distill/distill.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/log_softmax.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <functional>

#include "base/error.h"
#include "sparse/trainable_attention.h"

namespace retrosparse {
namespace {

// Every tensor of the weights with its name and place; tied embeddings once.
void for_each_weight(ModelWeights& weights, const std::function<void(const std::string&, at::Tensor&)>& visit) {
  const bool tied = weights.lm_head.is_same(weights.embed_tokens);
  const auto visit_defined = [&](const std::string& name, at::Tensor& tensor) {
    if (tensor.defined()) {
      visit(name, tensor);
    }
  };
  visit_defined("embed_tokens", weights.embed_tokens);
  visit_defined("final_norm", weights.final_norm);
  if (!tied) {
    visit_defined("lm_head", weights.lm_head);
  }
  for (size_t index = 0; index < weights.layers.size(); ++index) {
    LayerWeights& layer = weights.layers[index];
    const auto name = [&](const char* part) { return fmt::format("layers.{}.{}", index, part); };
    const auto linear = [&](const char* part, Linear& matrix) {
      visit_defined(name(part) + ".weight", matrix.weight);
      visit_defined(name(part) + ".bias", matrix.bias);
    };
    visit_defined(name("input_norm"), layer.input_norm);
    visit_defined(name("post_attention_norm"), layer.post_attention_norm);
    linear("qkv", layer.qkv);
    visit_defined(name("q_norm"), layer.q_norm);
    visit_defined(name("k_norm"), layer.k_norm);
    linear("output", layer.output);
    linear("gate_up", layer.gate_up);
    linear("down", layer.down);
    visit_defined(name("router"), layer.router);
    visit_defined(name("expert_gate_up"), layer.expert_gate_up);
    visit_defined(name("expert_down"), layer.expert_down);
  }
  if (tied) {
    weights.lm_head = weights.embed_tokens;
  }
}

// The same weights in another dtype, with gradients that reach the originals.
ModelWeights as_dtype(const ModelWeights& weights, at::ScalarType dtype) {
  ModelWeights copy = weights;
  for_each_weight(copy, [&](const std::string&, at::Tensor& tensor) { tensor = tensor.to(dtype); });
  return copy;
}

// KL(teacher || student) over the teacher's tokens, [n].
at::Tensor kl_of_rows(const at::Tensor& logits, const TeacherRows& teacher) {
  const at::Tensor expected = at::log_softmax(teacher.logits, -1);
  const at::Tensor said = at::log_softmax(logits.gather(-1, teacher.ids), -1);
  return (expected.exp() * (expected - said)).sum(-1);
}

}  // namespace

std::map<std::string, at::Tensor> named_weights(const ModelWeights& weights) {
  ModelWeights copy = weights;  // the tensors are shared
  std::map<std::string, at::Tensor> named;
  for_each_weight(copy, [&](const std::string& name, at::Tensor& tensor) { named[name] = tensor; });
  return named;
}

TrainingEnd distill(const ModelConfig& config, ModelWeights& weights, const SparseModel& sparse,
                    const TeacherAnswers& teacher, DataStream& data, const DistillOptions& options,
                    const dist::ProcessGroup& group, const std::filesystem::path& folder) {
  TrainingLoop loop;
  loop.name = "distill";
  loop.steps = options.steps;
  loop.save_every = options.save_every;
  loop.documents_per_step = options.documents_per_step;
  loop.folder = folder;
  loop.parameters = named_weights(weights);
  loop.settings = {{"steps", options.steps},
                   {"documents_per_step", options.documents_per_step},
                   {"learning_rate", options.learning_rate.peak},
                   {"warmup", options.learning_rate.warmup},
                   {"schedule", name_of(options.learning_rate.schedule)},
                   {"label_rows", teacher.rows().label_rows},
                   {"prompt_rows", teacher.rows().prompt_rows},
                   {"retrieval_heads", sparse.plan.retrieval_heads},
                   {"window", sparse.plan.local.window},
                   {"sink_tokens", sparse.plan.local.sink_tokens},
                   {"tail_block", sparse.selection.tail_block},
                   {"beta1", options.adamw.beta1},
                   {"beta2", options.adamw.beta2},
                   {"eps", options.adamw.eps},
                   {"weight_decay", options.adamw.weight_decay},
                   {"max_grad_norm", options.adamw.max_grad_norm}};
  std::vector<at::Tensor> parameters;
  for (const auto& [name, tensor] : loop.parameters) {
    parameters.push_back(tensor);
  }
  AdamW optimizer(std::move(parameters), options.adamw);
  // Every label row weighs the same, in whatever document it is: most tasks have few of them. So do prompt rows.
  const auto share = [&](int64_t rows) { return 1.0 / static_cast<double>(options.documents_per_step * rows); };
  const auto learn = [&](const Sample& sample, int64_t document, std::array<double, 2>& sums) {
    const DistillationRows learned = distillation_rows(sample, sparse.plan.local, teacher.rows());
    const std::vector<int64_t>& positions = learned.rows.rows;
    if (positions.empty()) {
      return;
    }
    const at::AutoGradMode with_gradients(true);
    const Model student(config, as_dtype(weights, options.compute_dtype));
    TrainableSparseAttention attention(sparse, learned.sparse_from);
    const at::IntArrayRef ids = at::IntArrayRef(sample.ids).slice(0, static_cast<size_t>(positions.back() + 1));
    const at::Tensor hidden = student.forward(ids, {.attention = &attention});
    const at::Tensor rows = at::tensor(positions, at::kLong).to(hidden.device());
    const at::Tensor kl = kl_of_rows(student.logits(hidden.index_select(0, rows)),
                                     teacher.read(document, positions.size(), hidden.device()));
    const at::Tensor of_labels = kl.slice(0, learned.num_prompt).sum();
    at::Tensor loss = of_labels * share(teacher.rows().label_rows);
    if (learned.num_prompt > 0) {
      loss = loss + kl.slice(0, 0, learned.num_prompt).sum() * share(teacher.rows().prompt_rows);
    }
    loss.backward();
    sums[0] += of_labels.item<double>();
    sums[1] += static_cast<double>(positions.size()) - static_cast<double>(learned.num_prompt);
  };
  return loop.run(optimizer, data, group, [&](int64_t step) -> nlohmann::ordered_json {
    std::array<double, 2> sums{};  // of the label rows' KL, and of their number
    for (int64_t place = group.rank(); place < options.documents_per_step; place += group.world_size()) {
      learn(data.next(), step * options.documents_per_step + place, sums);
    }
    for (const at::Tensor& parameter : optimizer.parameters()) {
      if (!parameter.grad().defined()) {
        parameter.mutable_grad() = at::zeros_like(parameter);  // an expert that no token was sent to
      }
      group.all_reduce_sum(parameter.grad());
    }
    at::Tensor totals = at::tensor(at::ArrayRef<double>(sums), at::kDouble).to(group.device());
    group.all_reduce_sum(totals);
    totals = totals.cpu();
    const double rows = std::max(totals[1].item<double>(), 1.0);  // no document of the step may have any
    const double learning_rate = options.learning_rate.at(step, options.steps);
    const double gradient_norm = optimizer.step(learning_rate);
    return {
        {"loss", totals[0].item<double>() / rows}, {"learning_rate", learning_rate}, {"gradient_norm", gradient_norm}};
  });
}

}  // namespace retrosparse
