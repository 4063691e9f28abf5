#include "tasks/task_formats.h"

#include "base/file.h"
#include "base/testing.h"

namespace retrosparse {
namespace {

std::string builtin_yaml() {
  return read_text(std::string(RETROSPARSE_SOURCE_DIR) + "/configs/tasks/retrieval.yaml");
}

/// What is said about the built-in formats with one text replaced by another.
std::string refused(const std::string& old_text, const std::string& new_text) {
  std::string yaml = builtin_yaml();
  const size_t place = yaml.find(old_text);
  EXPECT_NE(place, yaml.npos) << old_text;
  yaml.replace(place, old_text.size(), new_text);
  return error_of([&] { TaskFormats::parse(yaml, "tasks.yaml"); });
}

TEST(TaskFormats, TheBuiltInOnesAreThoseOfTheRepository) {
  const TaskFormats& formats = TaskFormats::builtin();
  EXPECT_EQ(formats.task_names(),
            (std::vector<std::string>{"copy", "kv", "mq", "mv", "niah1", "niah32", "niah8", "nll", "vt"}));
  EXPECT_EQ(formats.needles.statements[2], "\n# The special magic number for {k} is: {v}.\n");
  EXPECT_EQ(formats.key_value.line, "\"{k}\": \"{v}\",\n");
  EXPECT_EQ(formats.copy.before, "\n<passage>\n");
  EXPECT_GT(formats.keys.count() * 8, 50'000) << "enough for JSON data of a million tokens";
  EXPECT_EQ(formats.keys.key(0), "amber-anchor");
  EXPECT_EQ(formats.keys.key(formats.keys.count() - 1), "young-zebra");
}

TEST(TaskFormats, AreReadFromAFile) {
  const TempFolder folder;
  std::string yaml = builtin_yaml();
  yaml += "  mine: {kind: needles, needles: 3, questions: 2}\n";
  put_file(folder / "mine.yaml", yaml);
  const TaskFormats formats = TaskFormats::read(folder / "mine.yaml");
  const auto& task = std::get<NeedlesTask>(formats.task("mine"));
  EXPECT_EQ(task.needles, 3);
  EXPECT_EQ(task.questions, 2);
  EXPECT_TRUE(contains(error_of([&] { TaskFormats::read(folder / "gone.yaml"); }), "gone.yaml: cannot open"));
  EXPECT_TRUE(contains(error_of([&] { formats.task("main"); }), "mine.yaml: there is no task 'main'"));
}

TEST(TaskFormats, FillsPlaceholdersIn) {
  EXPECT_EQ(fill_in("{k}: {v}, {k}", {{"k", "a"}, {"v", "b"}}), "a: b, a");
  EXPECT_EQ(fill_in("{\"{k}\": {x}}", {{"k", "a"}}), "{\"a\": {x}}") << "other braces mean themselves";
  EXPECT_EQ(fill_in("{k", {{"k", "a"}}), "{k");
  EXPECT_EQ(fill_in("}{}{", {{"k", "a"}}), "}{}{");
  EXPECT_EQ(fill_in("{k}", {{"k", "{v}"}, {"v", "b"}}), "{v}") << "what is put in is left alone";
  EXPECT_EQ(fill_in("", {}), "");
}

TEST(TaskFormats, RefusesMistakes) {
  EXPECT_TRUE(contains(refused("prologue:", "prolog:"), "key 'prolog': unknown key (did you mean 'prologue'?)"));
  EXPECT_TRUE(contains(refused("hops: [2, 4]", "hop: [2, 4]"), "key 'tasks.vt.hops'"));
  EXPECT_TRUE(contains(refused("  answer: \" {v}.\\n\"", "  answer: \" {w}.\\n\""),
                       "key 'needles.answer': the text lacks the placeholder {v}"));
  EXPECT_TRUE(contains(refused("number for {k} is {v}", "number for {k} is"), "key 'needles.statements'"));
  EXPECT_TRUE(contains(refused("{adjective}-{noun}", "{adjective}"),
                       "key 'keys.pattern': the text lacks the placeholder {noun}"));
  EXPECT_TRUE(
      contains(refused("amber, ancient", "amber, amber"), "key 'keys.adjectives': the word 'amber' is given twice"));
  EXPECT_TRUE(contains(refused("abcdefgh", "abcabc"), "key 'key_value.key_endings'"));
  EXPECT_TRUE(contains(refused("value_digits: 7", "value_digits: 1"),
                       "key 'value_digits': out of range: expected 2 to 18, found 1"));
  EXPECT_TRUE(contains(refused("value_digits: 7", "value_digits: seven"), "tasks.yaml:"));
}

TEST(TaskFormats, RefusesImpossibleTasks) {
  EXPECT_TRUE(contains(refused("kind: copy", "kind: copyy"), "key 'tasks.copy.kind': unknown kind of task"));
  EXPECT_TRUE(contains(refused("kind: copy", "kind: copyy"), "did you mean 'copy'?"));
  EXPECT_TRUE(contains(refused("needles: 8, questions: 4", "needles: 8, questions: 9"),
                       "key 'tasks.mq.questions': out of range: expected 1 to 8, found 9"));
  EXPECT_TRUE(contains(refused("needles: 8, questions: 4", "needles: 0, questions: 0"), "key 'tasks.mq.needles'"));
  EXPECT_TRUE(contains(refused("[16, 96]", "[96, 16]"), "key 'tasks.copy.passage_tokens': not a pair of bounds"));
  EXPECT_TRUE(contains(refused("[16, 96]", "[16]"), "found [16]"));
  EXPECT_TRUE(contains(refused("[0.3, 0.75]", "[0.3, 1.0]"), "key 'tasks.kv.share': not a pair of bounds"));
  EXPECT_TRUE(contains(refused("scored_tokens: 256", "scored_tokens: 0"), "key 'tasks.nll.scored_tokens'"));
  EXPECT_TRUE(contains(refused("values: 4,", "values: 4, valeus: 3,"), "key 'tasks.mv.valeus': unknown key"));
}

}  // namespace
}  // namespace retrosparse
