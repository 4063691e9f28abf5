#include <fmt/format.h>

#include <CLI/App.hpp>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "cli/commands.h"
#include "cli/common.h"
#include "cli/output.h"
#include "data/corpus.h"
#include "model/config.h"
#include "tasks/needle_pair.h"
#include "tasks/task_suite.h"

namespace retrosparse::cli {
namespace {

struct TasksArguments {
  std::string model;
  std::vector<std::string> text;
  std::vector<std::string> tasks;
  std::string formats;
  int64_t length = 4096;
  int64_t samples = 3;
  uint64_t seed = 0;
  bool pairs = false;
  bool json = false;
};

TaskContext read_context(const TasksArguments& arguments) {
  const Tokenizer tokenizer = Tokenizer::from_folder(arguments.model);
  const std::vector<std::filesystem::path> files(arguments.text.begin(), arguments.text.end());
  const auto formats = std::make_shared<const TaskFormats>(
      arguments.formats.empty() ? TaskFormats::builtin() : TaskFormats::read(arguments.formats));
  const auto pool = std::make_shared<const TextPool>(tokenize_files(files, tokenizer),
                                                     SpecialTokens::of_model(arguments.model, tokenizer));
  return {tokenizer, pool, formats};
}

nlohmann::ordered_json to_json(const TokenRange& range) {
  return nlohmann::ordered_json::array({range.begin, range.end});
}

nlohmann::ordered_json to_json(const TaskSample& sample) {
  nlohmann::ordered_json answers = nlohmann::ordered_json::array();
  for (const TokenRange& answer : sample.answers) {
    answers.push_back(to_json(answer));
  }
  return {
      {"task", sample.task}, {"index", sample.index}, {"seed", sample.seed}, {"ids", sample.ids}, {"answers", answers}};
}

/// The text of a sample with some ranges between brackets, as ⟦ 1234567.⟧
std::string marked_text(const Tokenizer& tokenizer, const std::vector<int64_t>& ids,
                        const std::vector<TokenRange>& ranges) {
  std::string text;
  int64_t done = 0;
  const auto append = [&](int64_t end) {
    const std::span<const int64_t> part(ids.data() + done, static_cast<size_t>(end - done));
    text += tokenizer.decode(part, {.skip_special_tokens = false});
    done = end;
  };
  for (const TokenRange& range : ranges) {
    append(range.begin);
    text += "⟦";
    append(range.end);
    text += "⟧";
  }
  append(static_cast<int64_t>(ids.size()));
  return text;
}

void print_tasks(const TasksArguments& arguments, const TaskContext& context, int64_t max_length) {
  const TaskSuite suite(context, arguments.seed, max_length);
  nlohmann::ordered_json samples = nlohmann::ordered_json::array();
  for (const std::string& task : arguments.tasks.empty() ? suite.formats().task_names() : arguments.tasks) {
    for (int64_t index = 0; index < arguments.samples; ++index) {
      const TaskSample sample = suite.sample(task, arguments.length, index);
      if (arguments.json) {
        samples.push_back(to_json(sample));
      } else {
        print(fmt::format("== {}, sample {}\n{}\n", task, index,
                          marked_text(context.tokenizer, sample.ids, sample.answers)));
      }
    }
  }
  if (arguments.json) {
    print_json({{"length", arguments.length}, {"samples", samples}});
  }
}

void print_pairs(const TasksArguments& arguments, const TaskContext& context, int64_t max_length) {
  const NeedlePairs pairs(context, arguments.seed, max_length);
  nlohmann::ordered_json samples = nlohmann::ordered_json::array();
  for (int64_t document = 0; document < arguments.samples; ++document) {
    const NeedlePair pair = pairs.pair(arguments.length, document, /*needle=*/0);
    if (arguments.json) {
      samples.push_back({{"document", document},
                         {"ids", pair.ids},
                         {"first", to_json(pair.first)},
                         {"second", to_json(pair.second)}});
    } else {
      print(fmt::format("== needle pair, document {}\n{}\n", document,
                        marked_text(context.tokenizer, pair.ids, {pair.first, pair.second})));
    }
  }
  if (arguments.json) {
    print_json({{"length", arguments.length}, {"samples", samples}});
  }
}

void run_tasks(const TasksArguments& arguments) {
  const int64_t max_length = ModelConfig::read(arguments.model).max_position_embeddings;
  const TaskContext context = read_context(arguments);
  if (arguments.pairs) {
    print_pairs(arguments, context, max_length);
  } else {
    print_tasks(arguments, context, max_length);
  }
}

}  // namespace

void add_tasks(CLI::App& app) {
  const auto arguments = std::make_shared<TasksArguments>();
  CLI::App& command = add_command(app, "tasks", "Show samples of the retrieval tasks: what is asked, what is scored.",
                                  "retrosparse tasks --model examples/nano --text examples/text --task niah8 --length "
                                  "1000 --samples 1",
                                  [arguments] { run_tasks(*arguments); });
  add_model_option(command, arguments->model);
  command.add_option("--text", arguments->text, "running text: files, or folders of .txt and .jsonl, packed or not")
      ->type_name("FILE")
      ->required();
  auto* tasks = command.add_option("--task", arguments->tasks, "names, with commas between; default: all tasks")
                    ->type_name("NAMES")
                    ->delimiter(',');
  command.add_option("--length", arguments->length, "tokens in a sample")
      ->capture_default_str()
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 30));
  command.add_option("--samples", arguments->samples, "samples of each task")
      ->capture_default_str()
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 20));
  command.add_option("--seed", arguments->seed, "other samples")->capture_default_str();
  command
      .add_option("--formats", arguments->formats,
                  "texts and tasks of your own: a copy of configs/tasks/retrieval.yaml")
      ->type_name("FILE.yaml");
  command
      .add_flag("--pairs", arguments->pairs, "instead, what heads are profiled with: a needle at both ends of a text")
      ->excludes(tasks);
  add_json_option(command, arguments->json);
}

}  // namespace retrosparse::cli
