#include "tasks/task_suite.h"

#include <algorithm>
#include <regex>
#include <set>

#include "base/testing.h"
#include "tasks/tasks_testing.h"

namespace retrosparse {
namespace {

constexpr int64_t kLongest = 1 << 20;

class Suite : public testing::Test {
 protected:
  /// The sample's text, and that of its answers.
  struct Text {
    std::string all, question;  // the question: what stands behind the last of the blocks, up to the first answer
    std::vector<std::string> answers;
  };

  Text text_of(const TaskSample& sample) {
    Text text;
    text.all = decode(context_, sample.ids);
    text.question = decode(context_, sample.ids, {0, sample.answers.front().begin});
    for (const TokenRange& answer : sample.answers) {
      text.answers.push_back(decode(context_, sample.ids, answer));
    }
    return text;
  }

  static std::vector<std::smatch> matches(const std::string& text, const std::string& pattern) {
    static std::vector<std::unique_ptr<std::regex>> kept;
    kept.push_back(std::make_unique<std::regex>(pattern));
    return {std::sregex_iterator(text.begin(), text.end(), *kept.back()), std::sregex_iterator()};
  }

  /// Needles as (key, value), in the order of the text.
  static std::vector<std::pair<std::string, std::string>> needles_in(const std::string& text) {
    std::vector<std::pair<std::string, std::string>> needles;
    for (const std::smatch& match : matches(text,
                                            "\n(?:One of the special magic numbers|The special magic number|# The "
                                            "special magic number) for ([a-z]+-[a-z]+) is:? ([0-9]{7})\\.\n")) {
      needles.emplace_back(match[1], match[2]);
    }
    return needles;
  }

  TaskContext context_ = make_context();
  TaskSuite suite_{context_, 11, kLongest};
};

TEST_F(Suite, EverySampleHasTheAskedLength) {
  for (const std::string& task : suite_.formats().task_names()) {
    for (const int64_t length : {1500, 1501, 4096}) {
      const TaskSample sample = suite_.sample(task, length, 3);
      EXPECT_EQ(sample.length(), length) << task;
      EXPECT_EQ(sample.task, task);
      EXPECT_EQ(sample.index, 3);
      EXPECT_EQ(sample.seed, 11u);
      int64_t end = 1;  // no answer begins at 0
      for (const TokenRange& answer : sample.answers) {
        EXPECT_GE(answer.begin, end);
        EXPECT_GT(answer.size(), 0);
        end = answer.end;
      }
      EXPECT_LE(end, length);
      EXPECT_FALSE(sample.answers.empty());
    }
  }
}

TEST_F(Suite, IsAFunctionOfSeedTaskLengthAndIndex) {
  for (const std::string& task : suite_.formats().task_names()) {
    const TaskSample sample = suite_.sample(task, 1500, 0);
    EXPECT_EQ(TaskSuite(context_, 11, kLongest).sample(task, 1500, 0).ids, sample.ids);
    EXPECT_NE(TaskSuite(context_, 12, kLongest).sample(task, 1500, 0).ids, sample.ids);
    EXPECT_NE(suite_.sample(task, 1500, 1).ids, sample.ids);
  }
}

TEST_F(Suite, AsksForNeedlesThatAreThere) {
  const std::map<std::string, std::pair<size_t, size_t>> expected{
      {"niah1", {1, 1}}, {"niah8", {8, 1}}, {"niah32", {32, 1}}, {"mq", {8, 4}}};
  for (const auto& [task, counts] : expected) {
    for (int64_t index = 0; index < 5; ++index) {
      const Text text = text_of(suite_.sample(task, 3000, index));
      const auto needles = needles_in(text.all);
      ASSERT_EQ(needles.size(), counts.first) << task << text.all;
      EXPECT_EQ((std::map(needles.begin(), needles.end())).size(), counts.first) << "different keys";
      const auto questions = matches(text.all,
                                     "\nWhat is the special magic number for (\\S+) mentioned in the provided "
                                     "text\\? The special magic number for (\\S+) mentioned in the provided "
                                     "text is ([0-9]+)\\.\n");
      ASSERT_EQ(questions.size(), counts.second);
      ASSERT_EQ(text.answers.size(), counts.second);
      std::set<std::string> asked;
      for (size_t i = 0; i < questions.size(); ++i) {
        const std::string key = questions[i][1], value = questions[i][3];
        EXPECT_EQ(questions[i][2], key);
        EXPECT_EQ(text.answers[i], " " + value + ".\n");
        EXPECT_TRUE(std::ranges::count(needles, std::pair(key, value)) == 1) << key;
        asked.insert(key);
      }
      EXPECT_EQ(asked.size(), counts.second);
    }
  }
}

TEST_F(Suite, AsksForAllValuesInTheirOrder) {
  for (int64_t index = 0; index < 10; ++index) {
    const Text text = text_of(suite_.sample("mv", 3000, index));
    const auto question = matches(text.question,
                                  "\nWhat are all the special magic numbers for (\\S+) mentioned in the "
                                  "provided text\\? The special magic numbers for (\\S+) mentioned in "
                                  "the provided text are$");
    ASSERT_EQ(question.size(), 1u);
    const auto needles = needles_in(text.question);
    EXPECT_EQ(needles.size(), 8u);
    std::string values;
    for (const auto& [key, value] : needles) {
      if (key == question[0][1]) {
        values += (values.empty() ? " " : ", ") + value;
      }
    }
    EXPECT_EQ(values.size(), 4u * 9 - 1);
    EXPECT_EQ(text.answers, std::vector{values + ".\n"});
  }
}

TEST_F(Suite, AsksForJsonDataAgainAndAgain) {
  double least = 1, most = 0;
  for (int64_t index = 0; index < 20; ++index) {
    const TaskSample sample = suite_.sample("kv", 3000, index);
    const Text text = text_of(sample);
    std::map<std::string, std::string> data;
    const auto lines = matches(text.all, "\"([a-z]+-[a-z]+[a-h])\": \"([0-9]{7})\",\n");
    for (const std::smatch& line : lines) {
      data[line[1]] = line[2];
    }
    EXPECT_EQ(data.size(), lines.size()) << "different keys";
    const auto questions = matches(text.all, "\ndata\\[\"(\\S+)\"\\] == \"([0-9]{7})\"");
    ASSERT_GT(questions.size(), 5u);
    ASSERT_EQ(questions.size(), text.answers.size());
    for (size_t i = 0; i < questions.size(); ++i) {
      EXPECT_EQ(data.at(questions[i][1]), questions[i][2]);
      EXPECT_EQ(text.answers[i], " \"" + std::string(questions[i][2]) + "\"");
    }
    EXPECT_EQ(matches(text.all, "\nJSON data:\n\\{\"").size(), 1u);
    EXPECT_EQ(matches(text.all, ",\n\\}\n\ndata").size(), 1u);
    const std::string data_text =
        text.all.substr(text.all.find("\nJSON data"), text.all.find("\ndata[") - text.all.find("\nJSON data"));
    const double share = static_cast<double>(context_.encode(data_text).size()) / 3000;
    least = std::min(least, share);
    most = std::max(most, share);
  }
  EXPECT_GT(least, 0.28);
  EXPECT_LT(least, 0.45);
  EXPECT_GT(most, 0.6);
  EXPECT_LT(most, 0.78);
}

TEST_F(Suite, FollowsChainsOfVariables) {
  std::set<size_t> lengths, chain_counts;
  for (int64_t index = 0; index < 40; ++index) {
    const Text text = text_of(suite_.sample("vt", 1500, index));
    std::map<std::string, std::string> chain_of;  // variable -> names so far
    std::map<std::string, std::string> by_value;
    for (const std::smatch& match : matches(text.question, "\nVAR ([A-Z]{4}) = (?:([0-9]{5})|VAR ([A-Z]{4}))\n")) {
      if (match[2].matched) {
        chain_of[match[1]] = match[2];
        by_value[match[2]] = std::string(" ") + std::string(match[1]);
      } else {
        chain_of[match[1]] = chain_of.at(match[3]);  // throws where a variable is used before it was stated
        by_value[chain_of[match[1]]] += " " + std::string(match[1]);
      }
    }
    const auto question = matches(text.question,
                                  "\nQuestion: Find all variables that are assigned the value ([0-9]{5}) "
                                  "in the text above\\. Answer:$");
    ASSERT_EQ(question.size(), 1u);
    EXPECT_EQ(text.answers, std::vector{by_value.at(question[0][1]) + ".\n"});
    lengths.insert((text.answers[0].size() - 2) / 5);
    chain_counts.insert(by_value.size());
  }
  EXPECT_EQ(lengths, (std::set<size_t>{3, 4, 5})) << "two to four hops";
  EXPECT_EQ(chain_counts, (std::set<size_t>{1, 2, 3}));
}

TEST_F(Suite, CopiesThePassage) {
  for (int64_t index = 0; index < 20; ++index) {
    const TaskSample sample = suite_.sample("copy", 1500, index);
    ASSERT_EQ(sample.answers.size(), 1u);
    EXPECT_EQ(sample.answers[0].end, sample.length());
    const std::vector<int64_t> after = context_.encode("\n</passage>\n");
    const int64_t passage = sample.answers[0].size() - static_cast<int64_t>(after.size());
    EXPECT_GE(passage, 16);
    EXPECT_LE(passage, 96);
    const auto answer = sample.ids.begin() + sample.answers[0].begin;
    EXPECT_TRUE(std::equal(after.begin(), after.end(), answer + passage));
    const std::vector<int64_t> question = context_.encode("\nRepeat the last passage:\n<passage>\n");
    EXPECT_TRUE(std::equal(question.begin(), question.end(), answer - std::ssize(question)));
    std::vector<int64_t> block = context_.encode("\n<passage>\n");
    block.insert(block.end(), answer, sample.ids.end());
    const auto copy = std::search(sample.ids.begin(), answer, block.begin(), block.end());
    EXPECT_LE(copy, answer - std::ssize(question) - std::ssize(block)) << "the same tokens stand in the text";
  }
}

TEST_F(Suite, ScoresTheEndOfRunningText) {
  const TaskSample sample = suite_.sample("nll", 1000, 0);
  EXPECT_EQ(sample.answers, (std::vector<TokenRange>{{744, 1000}}));
}

TEST_F(Suite, HidesNeedlesEverywhere) {
  int early = 0, late = 0;
  constexpr int kSamples = 60;
  for (int64_t index = 0; index < kSamples; ++index) {
    const std::string text = text_of(suite_.sample("niah1", 1500, index)).question;
    const auto depth = static_cast<double>(text.find(needles_in(text)[0].second)) / static_cast<double>(text.size());
    early += depth < 1.0 / 3 ? 1 : 0;
    late += depth > 2.0 / 3 ? 1 : 0;
  }
  EXPECT_NEAR(early, 20, 14) << "four standard deviations";
  EXPECT_NEAR(late, 20, 14);
}

TEST_F(Suite, SamplesBeginAsTextsBegin) {
  TaskFormats formats = TaskFormats::builtin();
  formats.prologue = "<|im_start|>user\n";
  TaskContext context = make_context(2000, formats);
  SpecialTokens special = context.text->special();
  special.begin_of_text = {3};
  context.text = std::make_shared<const TextPool>(context.text->documents(), special);
  for (const std::string& task : formats.task_names()) {
    const TaskSample sample = TaskSuite(context, 11, kLongest).sample(task, 1500, 0);
    EXPECT_EQ(sample.length(), 1500);
    EXPECT_EQ(sample.ids[0], 3);
    EXPECT_EQ(sample.ids[1], *context.tokenizer.token_to_id("<|im_start|>"));
  }
}

TEST_F(Suite, RefusesWhatDoesNotFit) {
  const auto refused = [&](const std::string& task, int64_t length) {
    return error_of([&] { suite_.sample(task, length, 0); });
  };
  EXPECT_TRUE(contains(refused("niah9", 1500), "there is no task 'niah9'"));
  EXPECT_TRUE(contains(refused("niah88", 1500), "did you mean 'niah8'?"));
  for (const std::string& task : suite_.formats().task_names()) {
    EXPECT_TRUE(contains(refused(task, 10), "key '" + task +
                                                "': a sample of this task does not fit into the length: "
                                                "expected at least "));
    EXPECT_TRUE(contains(refused(task, 0), "found 0 tokens"));
    EXPECT_TRUE(
        contains(refused(task, kLongest + 1), "the length is beyond the model's context: expected at most 1048576"));
  }
  EXPECT_TRUE(contains(refused("niah1", 200'000), "key 'niah1': there is too little running text: expected at least"));
  // The length that an error asks for is enough, and no less is.
  const std::string message = refused("niah32", 100);
  const int64_t needed = std::stoll(message.substr(message.find("at least ") + 9));
  EXPECT_NO_THROW(suite_.sample("nll", 257, 0));
  EXPECT_TRUE(contains(refused("nll", 256), "expected at least 257 tokens"));
  EXPECT_GT(needed, 32 * 15);
}

TEST_F(Suite, RefusesToRunOutOfKeys) {
  TaskFormats formats = TaskFormats::builtin();
  formats.keys.adjectives.resize(4);
  formats.keys.nouns.resize(2);
  const TaskSuite suite(make_context(2000, formats), 11, kLongest);
  EXPECT_NO_THROW(suite.sample("niah8", 1500, 0));
  const std::string message = error_of([&] { suite.sample("niah32", 1500, 0); });
  EXPECT_TRUE(contains(message, "key 'niah32': one sample needs more different keys than there are: found 8"));
  EXPECT_TRUE(contains(error_of([&] { suite.sample("kv", 8000, 0); }), "found 64"));
}

}  // namespace
}  // namespace retrosparse
