#pragma once
#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

namespace retrosparse {

/// What a conversion measured: the content of report.json and of report.html. The names of the fields are the names in
/// the file. L layers, H query heads. KL, NLL and cross-entropies are in nats, accuracies and other shares in [0, 1],
/// times in seconds. A number that is not finite is null in the file. A section that is missing is a stage that was not
/// run, and the page says so.
struct Report {
  /// One number for each [layer][query head], [L][H].
  using HeadTable = std::vector<std::vector<double>>;

  struct Model {
    std::string name;    ///< for the reader: the checkpoint's folder name
    std::string family;  ///< "qwen3"
    int64_t num_parameters = 0;
    int64_t num_hidden_layers = 0;    ///< L
    int64_t num_attention_heads = 0;  ///< H, in each layer
    int64_t num_key_value_heads = 0;
    int64_t head_dim = 0;
    int64_t hidden_size = 0;
    int64_t vocab_size = 0;
    int64_t context_length = 0;  ///< tokens of the documents that it was converted and measured with
  };

  /// The retrieval scores and the heads that were chosen by them.
  struct Profile {
    HeadTable mean;                                     ///< [L][H]: R_h, mean over the documents
    HeadTable spread;                                   ///< [L][H]: standard deviation over the documents
    std::vector<std::vector<int64_t>> retrieval_heads;  ///< [L][]: query heads, ascending
    std::string policy;                                 ///< "query_head" or "kv_group"
    double ratio = 0;                                   ///< share of the heads that was asked for
    double stability = 0;  ///< share of the best heads that a single document finds, mean over several documents
    int64_t documents = 0;
    int64_t window = 0;  ///< tokens; of the local heads, and of the exact part of the retrieval heads
    int64_t sink_tokens = 0;
  };

  struct TrainingStep {
    int64_t step = 0;
    double kl = 0;             ///< KL(true attention || index), rows weighted as the target says
    double unweighted_kl = 0;  ///< every row counting 1
    double gate_loss = 0;      ///< binary cross-entropy of the far-mass estimate
    double learning_rate = 0;
    double gradient_norm = 0;  ///< before clipping
  };

  struct HeadLoss {
    int64_t layer = 0, head = 0;
    double start_kl = 0;  ///< far KL of the initialised index, on rows that are not trained on
    double end_kl = 0;    ///< of the trained one, on the same rows
    double far_mass = 0;  ///< of the attention, beyond window and sinks, mean over these rows
  };

  /// Stage 1.
  struct Training {
    std::string target;               ///< "far" or "full": the keys that the KL is over
    std::string initialization;       ///< "rope" or "random"
    int64_t index_dim = 0;            ///< r
    std::vector<TrainingStep> steps;  ///< empty: training-free
    std::vector<HeadLoss> heads;      ///< every retrieval head, or none
  };

  /// What one way of picking far tokens or tiles costs in one task.
  struct TaskKl {
    std::string task;
    int64_t rows = 0;
    double kl = 0;  ///< KL(dense retrieval heads || this), mean over the rows
  };

  /// What one way of picking far tokens keeps and costs, over the calibration rows.
  struct SelectionPoint {
    std::string rule;                   ///< "top_p", "top_k", "paper", or "oracle": the top k by the true scores
    std::optional<double> p;            ///< share of the mass to cover: top_p and paper
    std::optional<int64_t> min_tokens;  ///< floor: top_p
    std::optional<int64_t> max_tokens;  ///< cap: top_p; the k of top_k and oracle
    std::optional<int64_t> tail_block;  ///< tokens whose mean stands for those not picked; none: they are dropped
    /// Settings differ between heads: the three above are the least of any head, and these the most.
    bool by_head = false;
    std::optional<double> most_p;
    std::optional<int64_t> most_min_tokens, most_max_tokens;
    double kl = 0;              ///< KL(dense retrieval heads || this), mean over the rows
    double far_tokens = 0;      ///< picked by a head for a row, mean
    double accuracy = 0;        ///< share of the rows whose likeliest token is right
    std::vector<TaskKl> tasks;  ///< the same KL, task by task
  };

  /// The settings of one retrieval head.
  struct HeadGate {
    int64_t layer = 0, head = 0;
    double p = 0;
    int64_t min_tokens = 0, max_tokens = 0;
  };

  /// The curve of every selection rule, and what calibration chose from it.
  struct Selection {
    int64_t samples = 0, rows = 0;
    double dense_accuracy = 0;  ///< with dense retrieval heads, on the same rows
    double far_available = 0;   ///< far tokens that there were to pick, mean over the rows
    std::vector<SelectionPoint> points;
    std::optional<SelectionPoint> chosen;
    double kl_target = 0;
    bool target_met = false;
    std::vector<HeadGate> gates;  ///< the chosen settings of every retrieval head, or none
    HeadTable far_tokens;  ///< [L][H] under the chosen settings, mean over the rows; null for local heads. Or empty.
  };

  struct PrefillPoint {
    double tile_share = 0;  ///< share of a row's attention above which its best key makes a tile worth computing
    std::optional<double> most_tile_share;  ///< where heads differ, tile_share is the least of them and this the most
    double density = 0;                     ///< share of the far tiles that are computed
    double kl = 0;  ///< KL(dense prefill of retrieval heads || this), answer rows prefilled by tiles too
    double accuracy = 0;
    std::vector<TaskKl> tasks;  ///< the same KL, task by task
  };

  /// How the retrieval heads prefill.
  struct Prefill {
    std::string mode;                  ///< "dense" or "tiles"
    std::optional<double> tile_share;  ///< that was chosen, or the recipe says; the least where heads differ
    std::optional<PrefillPoint> chosen;
    std::optional<double> kl_target;  ///< of their calibration, which there was none where it is missing
    std::optional<bool> target_met;
    std::vector<PrefillPoint> points;  ///< empty: not measured
  };

  struct DistillationStep {
    int64_t step = 0;
    double loss = 0;  ///< against the teacher's ten likeliest tokens
    double learning_rate = 0;
  };

  /// Stage 2.
  struct Distillation {
    std::vector<DistillationStep> steps;
    std::optional<double> held_out_kl_before;  ///< KL(dense teacher || sparse), documents that are not trained on
    std::optional<double> held_out_kl_after;
  };

  /// The models that are compared.
  template <typename T>
  struct Variants {
    T dense;   ///< the model as it came: every head dense
    T plan;    ///< local heads windowed, retrieval heads dense
    T sparse;  ///< the converted model
    T paper;   ///< the same with the rule of arXiv 2605.16928: top-p over all keys, no floor, no cap
  };

  struct Measurement {
    std::optional<double> accuracy;       ///< mean over the tasks; nothing where none was asked
    std::optional<double> nll;            ///< of running text, a token
    std::optional<double> kl_dense;       ///< KL(dense || this), a label row
    std::optional<double> kl_plan;        ///< KL(plan || this), a label row
    std::optional<double> far_tokens;     ///< read by a retrieval head for a row, mean
    std::optional<double> far_available;  ///< that there were to read, mean over the same rows
    std::optional<double> tile_density;   ///< share of the prompts' far tiles that were computed, by tiles
    double kv_bytes = 0;                  ///< KV cache of one sequence of context_length tokens
    double index_bytes = 0;               ///< index keys beside it
    std::optional<double> prefill_speed, decode_speed;  ///< generating, tokens a second; see Speed
  };

  struct TaskResult {
    std::string task;
    int64_t length = 0;  ///< tokens of a sample
    int64_t samples = 0, rows = 0;
    Variants<std::optional<double>> accuracy;    ///< share of the label rows whose likeliest token is right
    Variants<std::optional<double>> kl_plan;     ///< KL(plan || this), a label row
    Variants<std::optional<double>> far_tokens;  ///< read by a retrieval head for a row, mean
  };

  /// How generating was timed: one sequence, greedily, the models in turns, medians.
  struct Speed {
    int64_t prompt_tokens = 0, new_tokens = 0, runs = 0;
    /// The converted model's, kept to the framework's operations where it otherwise runs by GPU kernels of our own.
    std::optional<double> prefill_without_kernels, decode_without_kernels;
  };

  struct Validation {
    int64_t samples = 0, rows = 0;  ///< of everything: the tasks, and running text
    Variants<std::optional<Measurement>> variants;
    std::vector<TaskResult> tasks;
    std::optional<Speed> speed;
  };

  /// One stage of the run, beside what `plan` had predicted for it.
  struct Stage {
    std::string name;
    double seconds = 0;
    std::optional<double> predicted_seconds;
    std::optional<double> peak_bytes;  ///< of the memory of `device`
    std::optional<double> predicted_peak_bytes;
  };

  struct Environment {
    std::string retrosparse, torch;  ///< versions
    std::string dtype;               ///< of the weights: "bfloat16"
    std::string device;              ///< "cpu", or what the GPU calls itself
    int64_t processes = 1;
    int64_t threads = 1;  ///< of the CPU, a process
    std::string kernels;  ///< of our own that this model's attention runs on there: "off", "prefill" or "all"
  };

  Model model;
  std::string created;  ///< when, in UTC: "2026-11-22T17:00:00Z"
  Environment environment;
  std::optional<Profile> profile;
  std::optional<Training> train;
  std::optional<Selection> selection;
  std::optional<Prefill> prefill;
  std::optional<Distillation> distill;
  std::optional<Validation> validation;
  std::vector<Stage> stages;                         ///< in the order in which they ran
  nlohmann::json recipe = nlohmann::json::object();  ///< resolved: every setting with its value
};

}  // namespace retrosparse
