#include "sample_report.h"

#include <algorithm>
#include <cmath>
#include <functional>

#include "sample_parts.h"

namespace retrosparse {
namespace {

Report::Profile sample_profile(const Report::Model& model, Noise& noise) {
  const auto layers = static_cast<size_t>(model.num_hidden_layers),
             heads = static_cast<size_t>(model.num_attention_heads);
  Report::Profile profile;
  profile.policy = "query_head";
  profile.ratio = 0.15;
  profile.stability = 0.96;
  profile.documents = 8;
  profile.window = 1024;
  profile.sink_tokens = 4;
  std::vector<double> all;
  for (size_t layer = 0; layer < layers; ++layer) {
    auto& mean = profile.mean.emplace_back();
    auto& spread = profile.spread.emplace_back();
    for (size_t head = 0; head < heads; ++head) {
      const bool late = 5 * layer > 2 * layers;
      mean.push_back(std::pow(noise.uniform(), late ? 6 : 14) * 0.99);
      spread.push_back(mean.back() * 0.2 * noise.uniform());
      all.push_back(mean.back());
    }
  }
  std::ranges::sort(all, std::greater<>());
  const double least = all[static_cast<size_t>(std::ceil(profile.ratio * static_cast<double>(all.size()))) - 1];
  for (size_t layer = 0; layer < layers; ++layer) {
    auto& chosen = profile.retrieval_heads.emplace_back();
    for (size_t head = 0; head < heads; ++head) {
      if (profile.mean[layer][head] >= least) {
        chosen.push_back(static_cast<int64_t>(head));
      }
    }
  }
  return profile;
}

Report::Training sample_training(const Report::Profile& profile, Noise& noise) {
  Report::Training training{.target = "far", .initialization = "rope", .index_dim = 16};
  for (int64_t step = 1; step <= 300; ++step) {
    const auto at = static_cast<double>(step);
    const double kl = noise.about(0.52 + 0.95 * std::exp(-at / 45), 0.22);
    training.steps.push_back(
        {.step = step,
         .kl = kl,
         .unweighted_kl = noise.about(kl * 1.35, 0.1),
         .gate_loss = noise.about(0.21 + 0.3 * std::exp(-at / 30), 0.15),
         .learning_rate = 1e-2 * std::min(at / 100, 0.5 + 0.5 * std::cos((at - 100) / 200 * 3.1416)),
         .gradient_norm = noise.about(0.4 + 2 * std::exp(-at / 25), 0.4)});
  }
  for (size_t layer = 0; layer < profile.retrieval_heads.size(); ++layer) {
    for (const int64_t head : profile.retrieval_heads[layer]) {
      const double start = noise.about(1.45, 0.5);
      training.heads.push_back({.layer = static_cast<int64_t>(layer),
                                .head = head,
                                .start_kl = start,
                                .end_kl = noise.about(start * 0.4, 0.4),
                                .far_mass = 0.4 + 0.3 * std::sin(static_cast<double>(head))});
    }
  }
  return training;
}

Report::Distillation sample_distillation(Noise& noise) {
  Report::Distillation distillation{.held_out_kl_before = 0.0241, .held_out_kl_after = 0.0133};
  for (int64_t step = 1; step <= 100; ++step) {
    const double loss = noise.about(0.013 + 0.012 * std::exp(-static_cast<double>(step) / 30), 0.25);
    distillation.steps.push_back({.step = step, .loss = loss, .learning_rate = 3e-5});
  }
  return distillation;
}

Report::Validation sample_validation(const Report::Model& model) {
  Report::Validation validation{.samples = 54, .rows = 4382};
  const double kv = 4.0 * static_cast<double>(model.num_hidden_layers * model.num_key_value_heads * model.head_dim *
                                              model.context_length);
  validation.variants.dense = Report::Measurement{
      .accuracy = 0.9702, .nll = 1.6711, .kv_bytes = kv, .prefill_speed = 91234, .decode_speed = 88.4};
  validation.variants.plan =
      Report::Measurement{.accuracy = 0.9690, .nll = 1.6752, .kl_dense = 0.0191, .kl_plan = 0, .kv_bytes = kv * 0.36};
  validation.variants.sparse = Report::Measurement{.accuracy = 0.9681,
                                                   .nll = 1.6749,
                                                   .kl_dense = 0.0133,
                                                   .kl_plan = 4.4e-3,
                                                   .far_tokens = 189.4,
                                                   .far_available = 31544,
                                                   .kv_bytes = kv * 0.36,
                                                   .index_bytes = kv * 0.021,
                                                   .prefill_speed = 183921,
                                                   .decode_speed = 141.2};
  validation.variants.paper = Report::Measurement{.accuracy = 0.9634,
                                                  .nll = 1.6840,
                                                  .kl_dense = 0.0296,
                                                  .kl_plan = 0.0112,
                                                  .far_tokens = 4336,
                                                  .far_available = 31544,
                                                  .kv_bytes = kv * 0.36,
                                                  .index_bytes = kv * 0.021};
  const auto task = [&](const char* name, int64_t rows, double dense, double plan, double sparse, double paper) {
    validation.tasks.push_back({.task = name,
                                .length = model.context_length,
                                .samples = 6,
                                .rows = rows,
                                .accuracy = {.dense = dense, .plan = plan, .sparse = sparse, .paper = paper},
                                .kl_plan = {.plan = 0, .sparse = 0.0026, .paper = 0.0112},
                                .far_tokens = {.sparse = 657, .paper = 4336}});
  };
  task("single_key", 54, 1, 1, 1, 1);
  task("multi_key_8", 54, 1, 1, 1, 0.9815);
  task("multi_key_32", 54, 1, 1, 1, 0.9630);
  task("multi_query", 216, 1, 1, 0.9954, 0.9861);
  task("multi_value", 210, 0.9333, 0.9286, 0.9286, 0.9190);
  task("key_value", 60, 1, 1, 1, 1);
  task("variable_tracking", 134, 0.8657, 0.8657, 0.8582, 0.8507);
  task("copy", 528, 0.9877, 0.9848, 0.9867, 0.9830);
  task("few_rows", 29, 0.7586, 0.7241, 0.7241, 0.2069);
  validation.speed = Report::Speed{.prompt_tokens = model.context_length - 64,
                                   .new_tokens = 64,
                                   .runs = 3,
                                   .prefill_without_kernels = 120444,
                                   .decode_without_kernels = 65.7};
  return validation;
}

nlohmann::json sample_recipe() {
  return {
      {"model", {{"dtype", "bfloat16"}}},
      {"profile", {{"documents", 8}, {"ratio", 0.15}, {"policy", "query_head"}, {"window", 1024}, {"sink_tokens", 4}}},
      {"train",
       {{"steps", 300},
        {"learning_rate", 1e-2},
        {"warmup", 100},
        {"kl", "far"},
        {"initialization", "rope"},
        {"rows_per_document", 512},
        {"index_dim", 16}}},
      {"calibrate", {{"selection", "top_p"}, {"kl_target", 5e-3}, {"p", {0.5, 0.7, 0.8, 0.9, 0.95}}}},
      {"prefill", {{"mode", "tiles"}, {"kl_target", 12e-3}}},
      {"distill", {{"steps", 100}, {"learning_rate", 3e-5}}},
      {"data", {{"files", {"books.txt.xz"}}, {"context_length", 32768}, {"seed", 0}}}};
}

}  // namespace

Report bare_sample() {
  Report report;
  report.model = {.name = "sample",
                  .family = "qwen3",
                  .num_parameters = 12'840'000,
                  .num_hidden_layers = 6,
                  .num_attention_heads = 8,
                  .num_key_value_heads = 2,
                  .head_dim = 128,
                  .hidden_size = 384,
                  .vocab_size = 4096,
                  .context_length = 32768};
  report.created = "2026-01-31T12:00:00Z";
  report.environment = {.retrosparse = "0.1.0",
                        .torch = "2.11.0",
                        .dtype = "bfloat16",
                        .device = "NVIDIA H200",
                        .threads = 16,
                        .kernels = "all"};
  return report;
}

Report sample_report(int64_t layers, int64_t heads) {
  Noise noise;
  Report report = bare_sample();
  report.model.name = "sample (made-up numbers)";
  report.model.num_hidden_layers = layers;
  report.model.num_attention_heads = heads;
  report.model.num_key_value_heads = heads / 4;
  report.profile = sample_profile(report.model, noise);
  report.train = sample_training(*report.profile, noise);
  report.selection = sample_selection(*report.profile, noise);
  report.prefill = sample_prefill();
  report.distill = sample_distillation(noise);
  report.validation = sample_validation(report.model);
  constexpr double kGib = 1 << 30;
  report.stages = {{.name = "profile",
                    .seconds = 9.1,
                    .predicted_seconds = 8,
                    .peak_bytes = 2.1 * kGib,
                    .predicted_peak_bytes = 2.3 * kGib},
                   {.name = "train",
                    .seconds = 74,
                    .predicted_seconds = 61,
                    .peak_bytes = 6.4 * kGib,
                    .predicted_peak_bytes = 5.9 * kGib},
                   {.name = "calibrate",
                    .seconds = 48,
                    .predicted_seconds = 44,
                    .peak_bytes = 3.3 * kGib,
                    .predicted_peak_bytes = 3.1 * kGib},
                   {.name = "distill",
                    .seconds = 66,
                    .predicted_seconds = 70,
                    .peak_bytes = 9.8 * kGib,
                    .predicted_peak_bytes = 9.1 * kGib},
                   {.name = "calibrate again",
                    .seconds = 21,
                    .predicted_seconds = 44,
                    .peak_bytes = 3.3 * kGib,
                    .predicted_peak_bytes = 3.1 * kGib},
                   {.name = "export", .seconds = 0.6, .predicted_seconds = 1},
                   {.name = "validate",
                    .seconds = 31,
                    .predicted_seconds = 29,
                    .peak_bytes = 3.2 * kGib,
                    .predicted_peak_bytes = 3.1 * kGib}};
  report.recipe = sample_recipe();
  return report;
}

Report text_only_sample() {
  Report report = sample_report();
  report.validation->tasks.clear();
  report.validation->samples = 6;
  report.validation->rows = 3072;
  for (auto variant : {&Report::Variants<std::optional<Report::Measurement>>::dense,
                       &Report::Variants<std::optional<Report::Measurement>>::plan,
                       &Report::Variants<std::optional<Report::Measurement>>::sparse,
                       &Report::Variants<std::optional<Report::Measurement>>::paper}) {
    (report.validation->variants.*variant)->accuracy.reset();
  }
  return report;
}

Report training_free_sample() {
  Report report = sample_report();
  report.train->steps.clear();
  report.train->heads.clear();
  report.distill->steps.clear();
  report.distill->held_out_kl_before.reset();
  report.distill->held_out_kl_after.reset();
  report.prefill = Report::Prefill{.mode = "dense"};
  report.validation.reset();
  return report;
}

}  // namespace retrosparse
