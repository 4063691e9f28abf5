#pragma once
#include <type_traits>

#include "report/report.h"

namespace retrosparse {

/// The fields of each struct with their names, once for both directions: calls visit("name", &Struct::name) for each in
/// the order of the file.
template <typename Visit>
void visit_fields(std::type_identity<Report::Model>, Visit&& visit) {
  using Model = Report::Model;
  visit("name", &Model::name);
  visit("family", &Model::family);
  visit("num_parameters", &Model::num_parameters);
  visit("num_hidden_layers", &Model::num_hidden_layers);
  visit("num_attention_heads", &Model::num_attention_heads);
  visit("num_key_value_heads", &Model::num_key_value_heads);
  visit("head_dim", &Model::head_dim);
  visit("hidden_size", &Model::hidden_size);
  visit("vocab_size", &Model::vocab_size);
  visit("context_length", &Model::context_length);
}

template <typename Visit>
void visit_fields(std::type_identity<Report::Profile>, Visit&& visit) {
  using Profile = Report::Profile;
  visit("mean", &Profile::mean);
  visit("spread", &Profile::spread);
  visit("retrieval_heads", &Profile::retrieval_heads);
  visit("policy", &Profile::policy);
  visit("ratio", &Profile::ratio);
  visit("stability", &Profile::stability);
  visit("documents", &Profile::documents);
  visit("window", &Profile::window);
  visit("sink_tokens", &Profile::sink_tokens);
}

template <typename Visit>
void visit_fields(std::type_identity<Report::TrainingStep>, Visit&& visit) {
  using Step = Report::TrainingStep;
  visit("step", &Step::step);
  visit("kl", &Step::kl);
  visit("unweighted_kl", &Step::unweighted_kl);
  visit("gate_loss", &Step::gate_loss);
  visit("learning_rate", &Step::learning_rate);
  visit("gradient_norm", &Step::gradient_norm);
}

template <typename Visit>
void visit_fields(std::type_identity<Report::HeadLoss>, Visit&& visit) {
  using Loss = Report::HeadLoss;
  visit("layer", &Loss::layer);
  visit("head", &Loss::head);
  visit("start_kl", &Loss::start_kl);
  visit("end_kl", &Loss::end_kl);
  visit("far_mass", &Loss::far_mass);
}

template <typename Visit>
void visit_fields(std::type_identity<Report::Training>, Visit&& visit) {
  using Training = Report::Training;
  visit("target", &Training::target);
  visit("initialization", &Training::initialization);
  visit("index_dim", &Training::index_dim);
  visit("steps", &Training::steps);
  visit("heads", &Training::heads);
}

template <typename Visit>
void visit_fields(std::type_identity<Report::TaskKl>, Visit&& visit) {
  using Kl = Report::TaskKl;
  visit("task", &Kl::task);
  visit("rows", &Kl::rows);
  visit("kl", &Kl::kl);
}

template <typename Visit>
void visit_fields(std::type_identity<Report::SelectionPoint>, Visit&& visit) {
  using Point = Report::SelectionPoint;
  visit("rule", &Point::rule);
  visit("p", &Point::p);
  visit("min_tokens", &Point::min_tokens);
  visit("max_tokens", &Point::max_tokens);
  visit("tail_block", &Point::tail_block);
  visit("by_head", &Point::by_head);
  visit("most_p", &Point::most_p);
  visit("most_min_tokens", &Point::most_min_tokens);
  visit("most_max_tokens", &Point::most_max_tokens);
  visit("kl", &Point::kl);
  visit("far_tokens", &Point::far_tokens);
  visit("accuracy", &Point::accuracy);
  visit("tasks", &Point::tasks);
}

template <typename Visit>
void visit_fields(std::type_identity<Report::HeadGate>, Visit&& visit) {
  using Gate = Report::HeadGate;
  visit("layer", &Gate::layer);
  visit("head", &Gate::head);
  visit("p", &Gate::p);
  visit("min_tokens", &Gate::min_tokens);
  visit("max_tokens", &Gate::max_tokens);
}

template <typename Visit>
void visit_fields(std::type_identity<Report::Selection>, Visit&& visit) {
  using Selection = Report::Selection;
  visit("samples", &Selection::samples);
  visit("rows", &Selection::rows);
  visit("dense_accuracy", &Selection::dense_accuracy);
  visit("far_available", &Selection::far_available);
  visit("points", &Selection::points);
  visit("chosen", &Selection::chosen);
  visit("kl_target", &Selection::kl_target);
  visit("target_met", &Selection::target_met);
  visit("gates", &Selection::gates);
  visit("far_tokens", &Selection::far_tokens);
}

template <typename Visit>
void visit_fields(std::type_identity<Report::PrefillPoint>, Visit&& visit) {
  using Point = Report::PrefillPoint;
  visit("tile_share", &Point::tile_share);
  visit("most_tile_share", &Point::most_tile_share);
  visit("density", &Point::density);
  visit("kl", &Point::kl);
  visit("accuracy", &Point::accuracy);
  visit("tasks", &Point::tasks);
}

template <typename Visit>
void visit_fields(std::type_identity<Report::Prefill>, Visit&& visit) {
  using Prefill = Report::Prefill;
  visit("mode", &Prefill::mode);
  visit("tile_share", &Prefill::tile_share);
  visit("chosen", &Prefill::chosen);
  visit("kl_target", &Prefill::kl_target);
  visit("target_met", &Prefill::target_met);
  visit("points", &Prefill::points);
}

template <typename Visit>
void visit_fields(std::type_identity<Report::DistillationStep>, Visit&& visit) {
  using Step = Report::DistillationStep;
  visit("step", &Step::step);
  visit("loss", &Step::loss);
  visit("learning_rate", &Step::learning_rate);
}

template <typename Visit>
void visit_fields(std::type_identity<Report::Distillation>, Visit&& visit) {
  using Distillation = Report::Distillation;
  visit("steps", &Distillation::steps);
  visit("held_out_kl_before", &Distillation::held_out_kl_before);
  visit("held_out_kl_after", &Distillation::held_out_kl_after);
}

template <typename T, typename Visit>
void visit_fields(std::type_identity<Report::Variants<T>>, Visit&& visit) {
  using Variants = Report::Variants<T>;
  visit("dense", &Variants::dense);
  visit("plan", &Variants::plan);
  visit("sparse", &Variants::sparse);
  visit("paper", &Variants::paper);
}

template <typename Visit>
void visit_fields(std::type_identity<Report::Measurement>, Visit&& visit) {
  using Measurement = Report::Measurement;
  visit("accuracy", &Measurement::accuracy);
  visit("nll", &Measurement::nll);
  visit("kl_dense", &Measurement::kl_dense);
  visit("kl_plan", &Measurement::kl_plan);
  visit("far_tokens", &Measurement::far_tokens);
  visit("far_available", &Measurement::far_available);
  visit("tile_density", &Measurement::tile_density);
  visit("kv_bytes", &Measurement::kv_bytes);
  visit("index_bytes", &Measurement::index_bytes);
  visit("prefill_speed", &Measurement::prefill_speed);
  visit("decode_speed", &Measurement::decode_speed);
}

template <typename Visit>
void visit_fields(std::type_identity<Report::Speed>, Visit&& visit) {
  using Speed = Report::Speed;
  visit("prompt_tokens", &Speed::prompt_tokens);
  visit("new_tokens", &Speed::new_tokens);
  visit("runs", &Speed::runs);
  visit("prefill_without_kernels", &Speed::prefill_without_kernels);
  visit("decode_without_kernels", &Speed::decode_without_kernels);
}

template <typename Visit>
void visit_fields(std::type_identity<Report::TaskResult>, Visit&& visit) {
  using Result = Report::TaskResult;
  visit("task", &Result::task);
  visit("length", &Result::length);
  visit("samples", &Result::samples);
  visit("rows", &Result::rows);
  visit("accuracy", &Result::accuracy);
  visit("kl_plan", &Result::kl_plan);
  visit("far_tokens", &Result::far_tokens);
}

template <typename Visit>
void visit_fields(std::type_identity<Report::Validation>, Visit&& visit) {
  using Validation = Report::Validation;
  visit("samples", &Validation::samples);
  visit("rows", &Validation::rows);
  visit("variants", &Validation::variants);
  visit("tasks", &Validation::tasks);
  visit("speed", &Validation::speed);
}

template <typename Visit>
void visit_fields(std::type_identity<Report::Stage>, Visit&& visit) {
  using Stage = Report::Stage;
  visit("name", &Stage::name);
  visit("seconds", &Stage::seconds);
  visit("predicted_seconds", &Stage::predicted_seconds);
  visit("peak_bytes", &Stage::peak_bytes);
  visit("predicted_peak_bytes", &Stage::predicted_peak_bytes);
}

template <typename Visit>
void visit_fields(std::type_identity<Report::Environment>, Visit&& visit) {
  using Environment = Report::Environment;
  visit("retrosparse", &Environment::retrosparse);
  visit("torch", &Environment::torch);
  visit("dtype", &Environment::dtype);
  visit("device", &Environment::device);
  visit("processes", &Environment::processes);
  visit("threads", &Environment::threads);
  visit("kernels", &Environment::kernels);
}

template <typename Visit>
void visit_fields(std::type_identity<Report>, Visit&& visit) {
  visit("model", &Report::model);
  visit("created", &Report::created);
  visit("environment", &Report::environment);
  visit("profile", &Report::profile);
  visit("train", &Report::train);
  visit("selection", &Report::selection);
  visit("prefill", &Report::prefill);
  visit("distill", &Report::distill);
  visit("validation", &Report::validation);
  visit("stages", &Report::stages);
  visit("recipe", &Report::recipe);
}

}  // namespace retrosparse
