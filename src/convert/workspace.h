#pragma once
#include <c10/core/Device.h>
#include <c10/core/ScalarType.h>

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "data/corpus.h"
#include "data/data_stream.h"
#include "dist/process_group.h"
#include "model/model.h"
#include "recipe/recipe.h"
#include "report/report.h"
#include "tasks/needle_pair.h"
#include "tasks/task_suite.h"
#include "validate/selection_curve.h"

namespace retrosparse {

/// What one conversion is about.
struct ConversionOptions {
  std::filesystem::path model;  ///< the checkpoint to convert
  std::filesystem::path out;    ///< where everything is written
  Recipe recipe;
  at::Device device = at::kCPU;
  at::ScalarType dtype = at::kFloat;
  int64_t prefill_chunk = 4096;  ///< prompt tokens in one forward pass
  bool rerun = false;            ///< finished training whose settings changed may begin anew
};

/// Where documents of a corpus are used: nothing that is measured was trained on, and nothing validated was calibrated
/// on.
enum class Split { kTraining, kCalibration, kValidation };

/// What the stages of a conversion share. Everything is read when it is first asked for and then kept.
class Workspace {
 public:
  /// Reads config.json and hashes the inputs. Error: a model that is not supported; data files that are missing; a
  /// step's documents that the processes of the group cannot share evenly.
  Workspace(ConversionOptions options, const dist::ProcessGroup& group);

  const ConversionOptions& options() const { return options_; }
  const Recipe& recipe() const { return options_.recipe; }
  const dist::ProcessGroup& group() const { return group_; }
  const ModelConfig& config() const { return config_; }
  std::filesystem::path folder(const std::string& stage) const { return options_.out / stage; }

  /// The model as it came: the teacher.
  const Model& dense_model();
  /// The weights that the converted model has: those of stage 2 where it has run, else the model's own.
  const Model& converted_model();
  /// Makes converted_model() read stage 2's weights again.
  void forget_converted_model() { converted_.reset(); }

  /// Tasks made of one split's running text. Samples of different splits differ in text, keys and places.
  TaskSuite tasks(Split split);
  /// Documents with a needle at both ends, of training text.
  NeedlePairs needle_pairs();
  /// The training mixture of the recipe, for this process.
  DataStream training_stream();
  /// Makes one sample of everything that the recipe's stages will ask for, so that what is wrong with data or tasks is
  /// found before hours of work and not after. Error: as those of the samples.
  void check_data();

  /// A task's sample with the rows to score: the last `max_rows` of its answers', so that a task of many answers counts
  /// about as much as one of few.
  ScoredSample scored_sample(const TaskSuite& suite, const std::string& task, int64_t index, int64_t max_rows) const;

  /// Digests of all that stages read from outside: first "model", then its tokenizer's files, each data file, and the
  /// tasks' formats.
  const std::vector<std::pair<std::string, std::string>>& input_digests() const { return digests_; }

  /// A report with nothing but the model's section, to which a stage adds its own.
  Report empty_report() const;

 private:
  void read_digests();
  const Corpus& corpus();
  TaskContext context(Split split);
  std::vector<TextSource> sources() const;

  ConversionOptions options_;
  const dist::ProcessGroup& group_;
  ModelConfig config_;
  std::vector<std::pair<std::string, std::string>> digests_;
  std::optional<Tokenizer> tokenizer_;
  std::optional<SpecialTokens> special_;
  std::optional<Corpus> corpus_;
  bool data_is_checked_ = false;
  std::optional<Model> dense_, converted_;
};

}  // namespace retrosparse
