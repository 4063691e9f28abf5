#include "convert/workspace.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <utility>

#include "base/error.h"
#include "base/hash.h"
#include "base/log.h"
#include "checkpoint/checkpoint.h"
#include "data/crop_source.h"
#include "data/document_reader.h"
#include "data/packed_source.h"
#include "export/base_identity.h"
#include "model/tensor_match.h"
#include "plan/parameters.h"
#include "tasks/task_source.h"

namespace retrosparse {
namespace {

namespace fs = std::filesystem;

// Samples of the three splits must differ even where a recipe has one seed.
uint64_t seed_of(uint64_t seed, Split split) {
  return seed * 3 + static_cast<uint64_t>(split);
}

// Each process trains on as many documents of a step as the others.
void check_shares(const std::string& key, int64_t documents_per_step, int64_t processes) {
  if (documents_per_step % processes != 0) {
    throw Error("the documents of a step cannot be shared evenly")
        .key(key)
        .expected(fmt::format("a multiple of the {} processes", processes))
        .found(std::to_string(documents_per_step));
  }
}

}  // namespace

Workspace::Workspace(ConversionOptions options, const dist::ProcessGroup& group)
    : options_(std::move(options)), group_(group), config_(ModelConfig::read(options_.model)) {
  if (recipe().context_length > config_.max_position_embeddings) {
    throw Error("the recipe's context is longer than the model's")
        .key("context_length")
        .expected(fmt::format("at most {} (max_position_embeddings)", config_.max_position_embeddings))
        .found(std::to_string(recipe().context_length));
  }
  if (recipe().index.index_dim > config_.head_dim) {
    throw Error("the index is wider than a head")
        .key("index.index_dim")
        .expected(fmt::format("at most {} (head_dim)", config_.head_dim))
        .found(std::to_string(recipe().index.index_dim));
  }
  if (recipe().distill.steps > 0 && recipe().distill.teacher_top_k > config_.vocab_size) {
    throw Error("more of the dense model's logits than it has")
        .key("distill.teacher_top_k")
        .expected(fmt::format("at most {} (vocab_size)", config_.vocab_size))
        .found(std::to_string(recipe().distill.teacher_top_k));
  }
  if (config_.is_converted() && group_.is_main()) {
    log_warning("{} was converted before: what is called dense here is its weights with full attention",
                options_.model.string());
  }
  check_shares("train.documents_per_step", recipe().train.documents_per_step, group_.world_size());
  if (recipe().distill.steps > 0) {
    check_shares("distill.documents_per_step", recipe().distill.documents_per_step, group_.world_size());
  }
  read_digests();
}

void Workspace::read_digests() {
  digests_.emplace_back("model", base_identity(Checkpoint::open(options_.model)));
  for (const char* name : {"tokenizer.json", "tokenizer_config.json", "generation_config.json"}) {
    if (fs::exists(options_.model / name)) {
      digests_.emplace_back(name, hash_file(options_.model / name));
    }
  }
  std::map<std::string, int> times_seen;  // files of one name in several folders
  for (const TextSource& source : sources()) {
    for (const fs::path& path : source.files) {
      for (const fs::path& file : document_files(path)) {
        std::string name = fmt::format("data {}: {}", source.name, file.filename().string());
        if (const int times = ++times_seen[name]; times > 1) {
          name += fmt::format(" ({})", times);
        }
        digests_.emplace_back(name, hash_file(file));
      }
    }
  }
  if (const std::string& formats = recipe().data.task_formats; !formats.empty()) {
    digests_.emplace_back("data.task_formats", hash_file(recipe().folder / formats));
  }
}

std::vector<TextSource> Workspace::sources() const {
  std::vector<TextSource> sources;
  for (const Recipe::Source& source : recipe().data.sources) {
    TextSource& text = sources.emplace_back();
    text.name = source.name;
    for (const std::string& file : source.files) {
      text.files.push_back(recipe().folder / file);
    }
  }
  return sources;
}

const Corpus& Workspace::corpus() {
  if (!corpus_) {
    tokenizer_ = Tokenizer::from_folder(options_.model);
    special_ = SpecialTokens::of_model(options_.model, *tokenizer_);
    const Recipe::Data& data = recipe().data;
    corpus_ = Corpus::read(sources(), *tokenizer_, {data.held_out_share, data.held_out_documents});
    if (corpus_->held_out().size() < 2) {
      throw Error("too few documents are held out")
          .key("data.held_out_documents")
          .expected("at least 2: one to calibrate and one to validate with")
          .found(std::to_string(corpus_->held_out().size()));
    }
  }
  return *corpus_;
}

TaskContext Workspace::context(Split split) {
  const Corpus& all = corpus();
  Documents documents;
  if (split == Split::kTraining) {
    documents = all.training();
  } else {
    for (size_t index = split == Split::kCalibration ? 0 : 1; index < all.held_out().size(); index += 2) {
      documents.push_back(all.held_out()[index]);
    }
  }
  const std::string& formats = recipe().data.task_formats;
  return {*tokenizer_, std::make_shared<const TextPool>(std::move(documents), *special_),
          std::make_shared<const TaskFormats>(formats.empty() ? TaskFormats::builtin()
                                                              : TaskFormats::read(recipe().folder / formats))};
}

TaskSuite Workspace::tasks(Split split) {
  return TaskSuite(context(split), seed_of(recipe().seed, split), recipe().context_length);
}

NeedlePairs Workspace::needle_pairs() {
  return NeedlePairs(context(Split::kTraining), recipe().seed, recipe().context_length);
}

DataStream Workspace::training_stream() {
  const Corpus& all = corpus();
  const Recipe::Data& data = recipe().data;
  const int64_t length = recipe().context_length;
  std::vector<WeightedSource> mixture;
  for (size_t index = 0; index < data.sources.size(); ++index) {
    const Recipe::Source& source = data.sources[index];
    std::shared_ptr<SampleSource> samples;
    // Crops would tear prompts from their responses.
    const bool has_responses =
        std::ranges::any_of(all.training(index), [](const auto& one) { return one->has_response(); });
    if (data.sampling == TextSampling::kPacked || has_responses) {
      samples = std::make_shared<PackedSource>(source.name, all.training(index), length, *special_, recipe().seed);
    } else {
      samples = std::make_shared<CropSource>(source.name, all.training(index), length, *special_, recipe().seed);
    }
    mixture.push_back({source.name, source.weight, std::move(samples)});
  }
  if (!data.tasks.empty()) {
    mixture.push_back({"tasks", data.tasks_weight,
                       std::make_shared<TaskSource>(context(Split::kTraining), data.tasks, length,
                                                    seed_of(recipe().seed, Split::kTraining))});
  }
  return DataStream(std::move(mixture), group_.rank(), group_.world_size());
}

void Workspace::check_data() {
  if (data_is_checked_) {
    return;
  }
  const int64_t length = recipe().context_length;
  needle_pairs().pair(length, 0, 0);
  const auto check_tasks = [&](const char* key, Split split, const std::vector<std::string>& names) {
    try {
      const TaskSuite suite = tasks(split);
      for (const std::string& name : names) {
        suite.sample(name, length, 0);
      }
    } catch (Error& error) {
      error.key(key).hint(split == Split::kTraining ? "it is made of the text to train on"
                                                    : "it is made of half of the text that is held out");
      throw;
    }
  };
  check_tasks("data.tasks", Split::kTraining, recipe().data.tasks);
  check_tasks("calibrate.tasks", Split::kCalibration, recipe().calibrate.tasks);
  check_tasks("validate.tasks", Split::kValidation, recipe().validate.tasks);
  training_stream().next();
  data_is_checked_ = true;
}

ScoredSample Workspace::scored_sample(const TaskSuite& suite, const std::string& task, int64_t index,
                                      int64_t max_rows) const {
  TaskSample sample = suite.sample(task, recipe().context_length, index);
  LabelRows labels;
  for (const TokenRange& answer : sample.answers) {
    for (int64_t position = answer.begin; position < answer.end; ++position) {
      labels.rows.push_back(position - 1);
      labels.targets.push_back(sample.ids[static_cast<size_t>(position)]);
    }
  }
  const auto surplus = static_cast<std::ptrdiff_t>(labels.rows.size()) - static_cast<std::ptrdiff_t>(max_rows);
  if (surplus > 0) {
    labels.rows.erase(labels.rows.begin(), labels.rows.begin() + surplus);
    labels.targets.erase(labels.targets.begin(), labels.targets.begin() + surplus);
  }
  return {task, std::move(sample.ids), std::move(labels)};
}

const Model& Workspace::dense_model() {
  if (!dense_) {
    dense_ = Model::load(options_.model, options_.device, options_.dtype);
  }
  return *dense_;
}

const Model& Workspace::converted_model() {
  const fs::path weights = folder("distill") / "weights";
  if (recipe().distill.steps == 0 || !fs::exists(weights)) {
    return dense_model();
  }
  if (!converted_) {
    const Checkpoint checkpoint = Checkpoint::open(weights);
    ModelConfig config = config_;
    config.tie_word_embeddings = embeddings_are_tied(checkpoint, config);
    converted_ = Model(config, load_weights(checkpoint, config, options_.device, options_.dtype));
  }
  return *converted_;
}

Report Workspace::empty_report() const {
  Report report;
  report.model = {.name = fs::weakly_canonical(options_.model).filename().string(),
                  .family = config_.family->name,
                  .num_parameters = static_cast<int64_t>(count_parameters(config_).total()),
                  .num_hidden_layers = config_.num_hidden_layers,
                  .num_attention_heads = config_.num_attention_heads,
                  .num_key_value_heads = config_.num_key_value_heads,
                  .head_dim = config_.head_dim,
                  .hidden_size = config_.hidden_size,
                  .vocab_size = config_.vocab_size,
                  .context_length = recipe().context_length};
  return report;
}

}  // namespace retrosparse
