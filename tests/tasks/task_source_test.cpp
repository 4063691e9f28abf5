#include "tasks/task_source.h"

#include "base/testing.h"
#include "data/data_stream.h"
#include "data/packed_source.h"
#include "tasks/tasks_testing.h"

namespace retrosparse {
namespace {

TEST(TaskSource, GivesTasksInTurnWithTheirAnswersAsLabels) {
  const TaskContext context = make_context();
  TaskSource source(context, {"niah1", "mq"}, 1500, 11);
  for (int64_t i = 0; i < 6; ++i) {
    const Sample sample = source.sample(i);
    EXPECT_EQ(sample.ids.size(), 1500u);
    EXPECT_EQ(sample.document_starts, std::vector<int64_t>{0});
    ASSERT_EQ(sample.labels.size(), i % 2 == 0 ? 1u : 4u);
    EXPECT_EQ(decode(context, sample.ids, sample.labels[0]).size(), 10u)
        << "a space, seven digits, a stop and a line's end";
    EXPECT_EQ(source.sample(i), sample);
  }
  EXPECT_NE(source.sample(0), source.sample(2));
}

TEST(TaskSource, DoesNotTrainOnSamplesOfTheSameSeedsSuite) {
  const TaskContext context = make_context();
  TaskSource source(context, {"niah1"}, 1500, 11);
  const TaskSuite suite(context, 11, 1500);
  for (int64_t i = 0; i < 5; ++i) {
    for (int64_t j = 0; j < 5; ++j) {
      EXPECT_NE(source.sample(i).ids, suite.sample("niah1", 1500, j).ids);
    }
  }
}

TEST(TaskSource, IsMixedWithText) {
  const TaskContext context = make_context();
  const auto stream = [&](uint64_t seed) {
    return DataStream(
        {{"text", 3,
          std::make_shared<PackedSource>("text", context.text->documents(), 1500, context.text->special(), seed)},
         {"tasks", 1, std::make_shared<TaskSource>(context, std::vector<std::string>{"niah1", "vt"}, 1500, seed)}});
  };
  DataStream one = stream(11);
  int labelled = 0;
  for (int i = 0; i < 40; ++i) {
    labelled += one.next().labels.empty() ? 0 : 1;
  }
  EXPECT_EQ(labelled, 10);
  DataStream again = stream(11), other = stream(12);
  again.restore(one.state());
  EXPECT_EQ(again.next(), one.next());
  EXPECT_NE(other.state().fingerprint, one.state().fingerprint);
}

TEST(TaskSource, FingerprintSeesTheFormats) {
  TaskFormats formats = TaskFormats::builtin();
  formats.needles.question += "?";
  EXPECT_NE(TaskSource(make_context(2000, formats), {"niah1"}, 1500, 11).fingerprint(),
            TaskSource(make_context(2000), {"niah1"}, 1500, 11).fingerprint());
}

TEST(TaskSource, RefusesAtOnceWhatItCannotMake) {
  const TaskContext context = make_context(2000);
  EXPECT_TRUE(contains(error_of([&] { TaskSource(context, {}, 1500, 11); }), "no task is given"));
  EXPECT_TRUE(contains(error_of([&] { TaskSource(context, {"niah1", "niah"}, 1500, 11); }), "no task 'niah'"));
  EXPECT_TRUE(contains(error_of([&] {
                         TaskSource(context, {"niah1", "niah32"}, 300, 11);
                       }),
                       "key 'niah32': a sample of this task does not fit"));
}

}  // namespace
}  // namespace retrosparse
