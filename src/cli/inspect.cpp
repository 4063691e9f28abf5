#include <fmt/format.h>
#include <fmt/ranges.h>

#include <CLI/App.hpp>
#include <memory>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/format.h"
#include "cli/commands.h"
#include "cli/common.h"
#include "cli/conversion_text.h"
#include "cli/inspect_profile.h"
#include "cli/inspection.h"
#include "cli/options.h"
#include "cli/output.h"

namespace retrosparse::cli {
namespace {

struct InspectArguments {
  std::string model;
  bool tensors = false;
  bool json = false;
};

std::string yes_no(bool value) {
  return value ? "yes" : "no";
}

std::string biases(const ModelConfig& config) {
  std::vector<std::string> where;
  for (const auto& [present, name] : {std::pair(config.qkv_bias, "q, k, v"), std::pair(config.output_bias, "output"),
                                      std::pair(config.mlp_bias, "feed-forward")}) {
    if (present) {
      where.emplace_back(name);
    }
  }
  return where.empty() ? "none" : fmt::format("{}", fmt::join(where, ", "));
}

std::string rope_text(const RopeConfig& rope) {
  std::string text = fmt::format("{}, theta {}", rope_type_name(rope.type), rope.theta);
  if (rope.type != RopeType::kDefault) {
    text += fmt::format(", factor {}", rope.factor);
  }
  if (rope.type == RopeType::kLlama3) {
    text += fmt::format(", low_freq_factor {}, high_freq_factor {}", rope.low_freq_factor, rope.high_freq_factor);
  }
  if (rope.type == RopeType::kYarn) {
    text += fmt::format(", beta_fast {}, beta_slow {}, attention_factor {:.4g}", rope.beta_fast, rope.beta_slow,
                        rope.attention_factor);
  }
  if (rope.type == RopeType::kLlama3 || rope.type == RopeType::kYarn) {
    text += fmt::format(", made for {} positions", rope.original_max_position_embeddings);
  }
  return text;
}

std::string feed_forward_text(const ModelConfig& config) {
  if (!config.experts) {
    return fmt::format("{}", config.intermediate_size);
  }
  const ExpertsConfig& experts = *config.experts;
  const auto layers = std::ranges::count(experts.layer_has_experts, true);
  std::string text =
      fmt::format("{} experts of {}, {} for each token, in {} of {} layers", experts.num_experts,
                  experts.intermediate_size, experts.num_experts_per_tok, layers, config.num_hidden_layers);
  return layers == config.num_hidden_layers ? text
                                            : fmt::format("{}; {} in the others", text, config.intermediate_size);
}

std::string embeddings_text(const Inspection& inspection) {
  if (!inspection.config.tie_word_embeddings) {
    return "input and output apart";
  }
  return inspection.tied_storage.empty()
             ? "tied"
             : fmt::format("tied, stored as {}", fmt::join(inspection.tied_storage, " and "));
}

std::string describe_config(const Inspection& inspection) {
  const ModelConfig& config = inspection.config;
  std::string text;
  text += field("architecture", fmt::format("{} (family {})", config.architecture, config.family->name));
  text += field("layers", std::to_string(config.num_hidden_layers));
  text += field("hidden size", std::to_string(config.hidden_size));
  text += field("feed-forward", feed_forward_text(config));
  text += field("attention", fmt::format("{} query heads, {} key/value heads, head_dim {}", config.num_attention_heads,
                                         config.num_key_value_heads, config.head_dim));
  text += field("q/k norm", yes_no(config.qk_norm));
  text += field("biases", biases(config));
  text += field("RoPE", rope_text(config.rope));
  text += field("positions", std::to_string(config.max_position_embeddings));
  text += field("vocabulary", std::to_string(config.vocab_size));
  text += field("embeddings", embeddings_text(inspection));
  std::string parameters = format_count(inspection.parameters.total());
  if (config.experts) {
    parameters += fmt::format(", active for a token {}", format_count(inspection.parameters.active()));
  }
  return text + field("parameters", parameters);
}

std::string list(std::string_view title, const std::vector<std::string>& names) {
  std::string text;
  for (const std::string& name : names) {
    text += field(title, name);
  }
  return text;
}

std::string describe_weights(const Inspection& inspection) {
  if (!inspection.checkpoint) {
    return field("weights", fmt::format("none: {}", inspection.no_weights));
  }
  const Checkpoint& checkpoint = *inspection.checkpoint;
  std::vector<std::string> dtypes;
  for (const auto& [name, total] : inspection.dtypes) {
    dtypes.push_back(fmt::format("{} {}", total.tensors, name));
  }
  std::string text =
      field("weights", fmt::format("{}, {} tensors: {}", format_bytes(static_cast<double>(checkpoint.total_bytes())),
                                   checkpoint.names().size(), fmt::join(dtypes, ", ")));
  for (const auto& [name, total] : inspection.files) {
    text += field(
        "file", fmt::format("{}: {}, {} tensors", name, format_bytes(static_cast<double>(total.bytes)), total.tensors));
  }
  text += list("missing tensor", inspection.match.missing);
  text += list("surplus tensor", inspection.match.surplus);
  text += list("not in the index", checkpoint.surplus());
  for (const Error& problem : inspection.match.wrong) {
    text += field("wrong tensor", problem.what());
  }
  return text;
}

std::string tensor_table(const Checkpoint& checkpoint) {
  Table table({"tensor", "dtype", "shape", "file"});
  for (const std::string& name : checkpoint.names()) {
    const TensorInfo& info = checkpoint.info(name);
    table.add(
        {name, std::string(dtype_name(info.dtype).value_or("?")), shape_text(info.shape), checkpoint.file_of(name)});
  }
  return table.text();
}

void show_profile(const std::filesystem::path& head_plan, bool json) {
  const Report report = read_profile(head_plan);
  if (json) {
    print_json(profile_json(report));
  } else {
    print(head_plan.string() + "\n" + describe_profile(report));
  }
}

void run_inspect(const InspectArguments& arguments) {
  if (const std::optional<std::filesystem::path> head_plan = find_head_plan(arguments.model)) {
    show_profile(*head_plan, arguments.json);
    return;
  }
  const Inspection inspection = inspect_model(arguments.model);
  if (arguments.json) {
    print_json(to_json(inspection, arguments.tensors));
  } else {
    print(arguments.model + "\n" + describe_config(inspection) +
          (inspection.conversion ? describe_conversion(*inspection.conversion) : "") + describe_weights(inspection));
    print(inspection.tokenizer.empty() ? "" : field("tokenizer", inspection.tokenizer));
    if (arguments.tensors && inspection.checkpoint) {
      print(tensor_table(*inspection.checkpoint));
    }
  }
  inspection.check();  // last, so that what is there is shown even where something is missing
}

}  // namespace

void add_inspect(CLI::App& app) {
  const auto arguments = std::make_shared<InspectArguments>();
  CLI::App& command = add_command(app, "inspect",
                                  "Show what a checkpoint is, or which heads a conversion chose. Reads headers only, "
                                  "never the weights.",
                                  "retrosparse inspect examples/nano", [arguments] { run_inspect(*arguments); });
  command
      .add_option("DIR", arguments->model,
                  "folder of a checkpoint, or a config.json; a conversion's folder, or its head_plan.json")
      ->type_name("")
      ->check(not_empty())
      ->required();
  command.add_flag("--tensors", arguments->tensors, "list every stored tensor");
  add_json_option(command, arguments->json);
}

}  // namespace retrosparse::cli
