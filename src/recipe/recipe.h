#pragma once
#include <cstdint>
#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "profile/retrieval_scores.h"
#include "sparse/selection.h"
#include "train/index_loss.h"
#include "train/learning_rate.h"

namespace retrosparse {

/// Where the index starts from.
enum class IndexInitialization { kRope, kRandom };

/// How the retrieval heads read the prompt.
enum class RecipePrefill { kDense, kTiles };

/// How training text becomes samples.
enum class TextSampling {
  kPacked,  ///< every document once before any is seen again
  kCrops,   ///< from random places
};

/// Everything that a conversion can be told: what recipes/*.yaml say. Every setting, its default, its bounds and what
/// it means are declared once, in recipe_fields.h, from which recipes are read, written and documented.
struct Recipe {
  struct Source {
    std::string name;
    std::vector<std::string> files;  ///< relative to the recipe's folder
    double weight = 1;
  };
  struct Data {
    std::vector<Source> sources;
    TextSampling sampling = TextSampling::kCrops;
    std::vector<std::string> tasks;
    double tasks_weight = 1;
    double held_out_share = 0;
    int64_t held_out_documents = 0;
    std::string task_formats;
  };
  struct Plan {
    int64_t window = 8192;
    int64_t sink_tokens = 4;
    double ratio = 0.15;
    HeadPolicy policy = HeadPolicy::kQueryHead;
  };
  struct Profile {
    int64_t documents = 8;
  };
  struct Index {
    int64_t index_dim = 16;
    IndexInitialization initialization = IndexInitialization::kRope;
    double noise = 0;
  };
  struct Train {
    int64_t steps = 600;
    LearningRate learning_rate{1e-3, 100, Schedule::kCosine};
    int64_t documents_per_step = 1;
    int64_t rows_per_document = 512;
    IndexTarget kl = IndexTarget::kFar;
    bool dense_backbone = false;
    double weight_decay = 0.01;
    double max_grad_norm = 1;
    int64_t save_every = 50;
  };
  struct Selection {
    SelectionRule rule = SelectionRule::kTopP;
    GateSettings gate;
    int64_t tail_block = 0;
  };
  struct Prefill {
    RecipePrefill mode = RecipePrefill::kDense;
    double tile_share = 0.02;
  };
  struct Calibrate {
    bool enabled = true;
    std::vector<std::string> tasks{"niah1", "niah8", "niah32", "mq", "mv", "kv", "vt", "copy", "nll"};
    int64_t samples = 4;
    int64_t rows_per_sample = 128;
    double kl_target = 3e-3;
    std::vector<double> p{0.5, 0.7, 0.8, 0.9, 0.95};
    std::vector<int64_t> min_tokens{16, 64, 256};
    std::vector<int64_t> max_tokens{256, 512, 1024};
    int64_t head_rounds = 2;
    double tile_kl_target = 12e-3;
    std::vector<double> tile_shares{0.05, 0.02, 0.01, 0.005};
    int64_t tile_head_rounds = 0;
  };
  struct Distill {
    int64_t steps = 0;
    LearningRate learning_rate{3e-6, 200, Schedule::kConstant};
    int64_t documents_per_step = 8;
    int64_t label_rows = 300;
    int64_t prompt_rows = 0;
    int64_t teacher_top_k = 10;
    double weight_decay = 0.01;
    double max_grad_norm = 1;
    int64_t save_every = 20;
  };
  struct Export {
    bool adapter = true;
  };
  struct Validate {
    std::vector<std::string> tasks{"niah1", "niah8", "niah32", "mq", "mv", "kv", "vt", "copy", "nll"};
    int64_t samples = 6;
    int64_t rows_per_sample = 128;
    double paper_p = 0.9;
    int64_t speed_tokens = 64, speed_runs = 3;
  };

  int64_t context_length = 32768;
  uint64_t seed = 0;
  Data data;
  Plan plan;
  Profile profile;
  Index index;
  Train train;
  Selection selection;
  Prefill prefill;
  Calibrate calibrate;
  Distill distill;
  Export export_;  // "export" is a word of C++
  Validate validate;

  std::filesystem::path folder;  ///< of the recipe's file, to which data files are relative

  /// Reads a recipe; `settings` are "section.key=value", see YamlObject::parse. Error (with file, line and key):
  /// missing, not YAML, a key unknown, of a wrong type or out of its bounds, or values that do not go together.
  static Recipe read(const std::filesystem::path& path, const std::vector<std::string>& settings);
  static Recipe parse(std::string_view yaml, const std::filesystem::path& path,
                      const std::vector<std::string>& settings);

  /// Every setting with its value, in the order of the documentation.
  nlohmann::ordered_json to_json() const;

  /// All settings with defaults and meanings, as the Markdown of recipes/README.md.
  static std::string documentation();
};

}  // namespace retrosparse
