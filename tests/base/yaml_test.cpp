#include "base/yaml.h"

#include <gtest/gtest.h>

#include <limits>

#include "base/testing.h"

namespace retrosparse {
namespace {

YamlObject parse(std::string_view text) {
  return YamlObject::parse(text, "recipe.yaml");
}

TEST(Yaml, ReadsTypedScalars) {
  const YamlObject yaml = parse(R"(
steps: 300
rate: 1e-3
half: .5
name: nano model
quoted: "300"
flag: true
word: yes
nothing: ~
empty:
ids: [1, 2]
names:
  - a
  - 'b'
sizes: {a: 1.5, b: 2}
)");
  EXPECT_EQ(yaml.get<int64_t>("steps"), 300);
  EXPECT_EQ(yaml.get<double>("steps"), 300.0);
  EXPECT_EQ(yaml.get<double>("rate"), 1e-3);
  EXPECT_EQ(yaml.get<double>("half"), 0.5);
  EXPECT_EQ(yaml.get<std::string>("name"), "nano model");
  EXPECT_EQ(yaml.get<std::string>("quoted"), "300");
  EXPECT_TRUE(yaml.get<bool>("flag"));
  EXPECT_EQ(yaml.get<std::string>("word"), "yes");
  EXPECT_FALSE(yaml.has("nothing"));
  EXPECT_EQ(yaml.get_or<int>("empty", 7), 7);
  EXPECT_EQ(yaml.get<std::vector<int64_t>>("ids"), (std::vector<int64_t>{1, 2}));
  EXPECT_EQ(yaml.get<std::vector<std::string>>("names"), (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ((yaml.get<std::map<std::string, double>>("sizes").at("a")), 1.5);
  EXPECT_NO_THROW(yaml.finish());
}

TEST(Yaml, NamesFileLineAndKeyOfAWrongValue) {
  const YamlObject yaml = parse("model: x\ntrain:\n  steps: many\n  rates: [1, two]\n  on: 1\n");
  const YamlObject train = yaml.object("train");
  EXPECT_EQ(error_of([&] { train.get<int64_t>("steps"); }),
            "recipe.yaml:3: key 'train.steps': wrong type: expected a 64-bit integer, found \"many\"");
  EXPECT_TRUE(contains(error_of([&] { train.get<std::vector<double>>("rates"); }),
                       "recipe.yaml:4: key 'train.rates[1]': wrong type: expected a number"));
  EXPECT_EQ(error_of([&] { train.get<bool>("on"); }),
            "recipe.yaml:5: key 'train.on': wrong type: expected true or false, found 1");
  EXPECT_EQ(error_of([&] { train.get<int>("gone"); }), "recipe.yaml:2: key 'train.gone': missing");
  EXPECT_TRUE(contains(error_of([&] { yaml.object("model"); }), "recipe.yaml:1: key 'model': wrong type"));
  EXPECT_STREQ(train.error("steps", "too many").what(), "recipe.yaml:3: key 'train.steps': too many");
}

TEST(Yaml, RefusesUnknownKeysWithTheNearestThatWasAskedFor) {
  const YamlObject yaml = parse("train:\n  steps: 3\n  warmup_step: 5\n");
  const YamlObject train = yaml.object("train");
  EXPECT_EQ(train.get<int>("steps"), 3);
  EXPECT_EQ(train.get_or<int>("warmup_steps", 100), 100);
  EXPECT_EQ(error_of([&] { yaml.finish(); }),
            "recipe.yaml:3: key 'train.warmup_step': unknown key (did you mean 'warmup_steps'?)");
}

TEST(Yaml, LooksIntoListsAndOptionalSections) {
  const YamlObject yaml = parse("stages:\n  - name: a\n  - name: b\n    nmae: c\n");
  for (const YamlObject& stage : yaml.list("stages")) {
    EXPECT_FALSE(stage.get<std::string>("name").empty());
  }
  EXPECT_EQ(yaml.object_or_empty("train").get_or<int>("steps", 1), 1);
  EXPECT_EQ(error_of([&] { yaml.finish(); }),
            "recipe.yaml:4: key 'stages[1].nmae': unknown key (did you mean 'name'?)");
  EXPECT_TRUE(contains(error_of([&] { parse("").finish(), parse("a: 1").finish(); }), "key 'a': unknown key"));
}

TEST(Yaml, TakesAnEmptyFileAndRefusesWhatIsNoMapping) {
  EXPECT_NO_THROW(parse("").finish());
  EXPECT_NO_THROW(parse("# only a comment\n").finish());
  EXPECT_TRUE(contains(error_of([] { parse("- a\n"); }), "recipe.yaml: not a YAML mapping"));
  EXPECT_TRUE(contains(error_of([] { parse("just text"); }), "recipe.yaml: not a YAML mapping"));
  EXPECT_TRUE(contains(error_of([] { parse("a: 1\n---\nb: 2\n"); }), "more than one YAML document"));
  EXPECT_TRUE(contains(error_of([] { parse("a: 1\nb: [1, 2\n"); }), "recipe.yaml:3: not valid YAML"));
  EXPECT_EQ(error_of([] { parse("a: 1\nb:\n  c: 1\n  c: 2\n"); }), "recipe.yaml:4: key 'b.c': given twice");
  EXPECT_TRUE(contains(error_of([] { parse("? [a]\n: 1\n"); }), "a key has to be plain text"));
}

TEST(Yaml, EndsOnTextsThatAreMadeToBreakReaders) {
  EXPECT_EQ(error_of([] { parse("a: &x [1, 2]\nb: [*x, *x]\n"); }), "recipe.yaml:2: key 'b[0]': aliases are not read");
  EXPECT_FALSE(error_of([] { parse("a: &x {b: *x}\n"); }).empty()) << "a mapping that contains itself";
  EXPECT_FALSE(error_of([] { parse("a: " + std::string(100'000, '[')); }).empty());
  EXPECT_FALSE(error_of([] { parse(std::string(100'000, '-') + " "); }).empty());
  for (const std::string text : {",", ", 5]\na: 1\n", "{:", "[:", "{# ke\ny{:", "a: (\n\"b\"\n)", "}", "- !+(.,.)"}) {
    EXPECT_FALSE(error_of([&] { parse(text); }).empty()) << text;
  }
}

TEST(Yaml, ReadsSignedAndLargeNumbers) {
  const YamlObject yaml = parse("a: +5\nb: +.5\nc: 18446744073709551615\nd: +x\n");
  EXPECT_EQ(yaml.get<int64_t>("a"), 5);
  EXPECT_EQ(yaml.get<double>("b"), 0.5);
  EXPECT_EQ(yaml.get<uint64_t>("c"), std::numeric_limits<uint64_t>::max());
  EXPECT_EQ(yaml.get<std::string>("d"), "+x");
}

TEST(Yaml, ReadsFiles) {
  const TempFolder folder;
  put_file(folder / "r.yaml", "a: 1\n");
  EXPECT_EQ(YamlObject::read(folder / "r.yaml").get<int>("a"), 1);
  EXPECT_TRUE(contains(error_of([&] { YamlObject::read(folder / "gone.yaml"); }), "cannot open: No such file"));
}

TEST(Yaml, SettingsReplaceValuesAndNameThemselvesInErrors) {
  const std::string text = "train:\n  steps: 3\nlist: [1]\n";
  const YamlObject yaml = YamlObject::parse(text, "r.yaml", {"train.steps=5", "new.inner.list=[a, b]", "list=[2, 3]"});
  EXPECT_EQ(yaml.object("train").get<int64_t>("steps"), 5);
  EXPECT_EQ(yaml.get<std::vector<int64_t>>("list"), (std::vector<int64_t>{2, 3}));
  EXPECT_EQ(yaml.object("new").object("inner").get<std::vector<std::string>>("list"),
            (std::vector<std::string>{"a", "b"}));
  const YamlObject wrong = YamlObject::parse(text, "r.yaml", {"train.steps=many", "train.stepps=1"});
  const std::string type = error_of([&] { (void)wrong.object("train").get<int64_t>("steps"); });
  EXPECT_TRUE(contains(type, "--set train.steps=many"));
  EXPECT_TRUE(wrong.has("list"));
  const std::string unknown = error_of([&] { wrong.finish(); });
  EXPECT_TRUE(contains(unknown, "--set train.stepps=1"));
  EXPECT_TRUE(contains(unknown, "did you mean 'steps'"));
  const YamlObject within = YamlObject::parse(text, "r.yaml", {"list=[one]", "trian.steps=2"});
  EXPECT_TRUE(
      contains(error_of([&] { (void)within.get<std::vector<int64_t>>("list"); }), "--set list=[one]: key 'list[0]'"));
  EXPECT_TRUE(within.has("train"));
  EXPECT_TRUE(contains(error_of([&] { within.finish(); }), "--set trian.steps=2: key 'trian'"));
  for (const char* bad : {"train", "=3", "train.steps.deep=1", "list.x=1", "train.steps=[", "train.steps=a: {"}) {
    EXPECT_THROW(YamlObject::parse(text, "r.yaml", {bad}), Error) << bad;
  }
}

}  // namespace
}  // namespace retrosparse
