#include "base/json.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "base/file.h"
#include "base/testing.h"

namespace retrosparse {
namespace {

JsonObject parse(std::string_view text) {
  return JsonObject::parse(text, "config.json");
}

TEST(Json, ReadsEveryType) {
  const JsonObject object = parse(R"({"b": true, "i": -3, "u": 18446744073709551615, "d": 2.5, "s": "x\ny",
                                      "is": [1, 2], "ds": [1, 2.5], "ss": ["a"], "m": {"k": "v"}, "mi": {"k": 7}})");
  EXPECT_TRUE(object.get<bool>("b"));
  EXPECT_EQ(object.get<int>("i"), -3);
  EXPECT_EQ(object.get<int64_t>("i"), -3);
  EXPECT_EQ(object.get<uint64_t>("u"), UINT64_MAX);
  EXPECT_EQ(object.get<double>("d"), 2.5);
  EXPECT_EQ(object.get<double>("i"), -3.0) << "an integer is a fine double";
  EXPECT_EQ(object.get<std::string>("s"), "x\ny");
  EXPECT_EQ(object.get<std::vector<int64_t>>("is"), (std::vector<int64_t>{1, 2}));
  EXPECT_EQ(object.get<std::vector<double>>("ds"), (std::vector<double>{1, 2.5}));
  EXPECT_EQ(object.get<std::vector<std::string>>("ss"), std::vector<std::string>{"a"});
  EXPECT_EQ((object.get<std::map<std::string, std::string>>("m").at("k")), "v");
  EXPECT_EQ((object.get<std::map<std::string, int64_t>>("mi").at("k")), 7);
}

TEST(Json, FallsBackForMissingAndNullOnly) {
  const JsonObject object = parse(R"({"n": null, "x": 1})");
  EXPECT_FALSE(object.has("n"));
  EXPECT_FALSE(object.has("gone"));
  EXPECT_EQ(object.get_or<int64_t>("n", 5), 5);
  EXPECT_EQ(object.get_or<int64_t>("gone", 5), 5);
  EXPECT_EQ(object.get_or<int64_t>("x", 5), 1);
  EXPECT_EQ(error_of([&] { object.get_or<std::string>("x", "y"); }),
            "config.json: key 'x': wrong type: expected a string, found 1");
}

TEST(Json, RefusesWrongTypesByFileKeyExpectedAndFound) {
  const JsonObject object = parse(R"({"rope": {"factor": "8", "heads": 2.0, "dims": [1, "two"], "map": {"a": []}},
                                      "big": 3000000000, "huge": 18446744073709551615, "negative": -1, "flag": 1})");
  const JsonObject rope = object.object("rope");
  EXPECT_EQ(error_of([&] { rope.get<double>("factor"); }),
            "config.json: key 'rope.factor': wrong type: expected a number, found \"8\"");
  EXPECT_EQ(error_of([&] { rope.get<int64_t>("heads"); }),
            "config.json: key 'rope.heads': wrong type: expected a 64-bit integer, found 2.0");
  EXPECT_EQ(error_of([&] { rope.get<std::vector<int64_t>>("dims"); }),
            "config.json: key 'rope.dims[1]': wrong type: expected a 64-bit integer, found \"two\"");
  EXPECT_EQ(error_of([&] { rope.get<std::map<std::string, std::string>>("map"); }),
            "config.json: key 'rope.map.a': wrong type: expected a string, found a list");
  EXPECT_EQ(error_of([&] { object.get<int>("big"); }),
            "config.json: key 'big': out of range: expected a 32-bit integer, found 3000000000");
  EXPECT_EQ(error_of([&] { object.get<int64_t>("huge"); }),
            "config.json: key 'huge': out of range: expected a 64-bit integer, found 18446744073709551615");
  EXPECT_EQ(error_of([&] { object.get<uint64_t>("negative"); }),
            "config.json: key 'negative': out of range: expected a non-negative 64-bit integer, found -1");
  EXPECT_EQ(error_of([&] { object.get<bool>("flag"); }),
            "config.json: key 'flag': wrong type: expected true or false, found 1");
  EXPECT_EQ(error_of([&] { object.get<int64_t>("rope"); }),
            "config.json: key 'rope': wrong type: expected a 64-bit integer, found an object");
  EXPECT_EQ(error_of([&] { rope.get<int64_t>("gone"); }), "config.json: key 'rope.gone': missing");
  EXPECT_EQ(error_of([&] { object.object("flag"); }),
            "config.json: key 'flag': wrong type: expected an object, found 1");
}

TEST(Json, TheCallerSaysWhatIsWrongWithAValue) {
  const JsonObject object = parse(R"({"share": 7, "kind": "x"})");
  EXPECT_STREQ(object.out_of_range("share", "a number above 0, at most 1").what(),
               "config.json: key 'share': out of range: expected a number above 0, at most 1, found 7");
  EXPECT_STREQ(object.wrong_type("share", "an integer in words").what(),
               "config.json: key 'share': wrong type: expected an integer in words, found 7");
  EXPECT_STREQ(object.wrong_value("kind", "y or z").what(),
               "config.json: key 'kind': wrong value: expected y or z, found \"x\"");
}

TEST(Json, CutsLongTextsInMessagesAtACharacter) {
  std::string value;
  for (int i = 0; i < 100; ++i) {
    value += "aé";
  }
  for (int shift = 0; shift < 3; ++shift) {  // the cut goes through an é for one of them
    const std::string message = error_of([&] { parse("{\"s\": \"" + value + "\"}").get<int>("s"); });
    EXPECT_LT(message.size(), 150U);
    EXPECT_TRUE(contains(message, "...")) << message;
    EXPECT_NO_THROW((void)nlohmann::json(message).dump()) << "not valid UTF-8";
    value.insert(0, "x");
  }
}

TEST(Json, OpensListsOfObjectsAndOptionalSections) {
  const JsonObject object = parse(R"({"tokens": [{"id": 1}, {"id": "x"}], "mixed": [{}, 3]})");
  const std::vector<JsonObject> tokens = object.objects("tokens");
  EXPECT_EQ(tokens.at(0).get<int>("id"), 1);
  EXPECT_TRUE(contains(error_of([&] { tokens.at(1).get<int>("id"); }), "key 'tokens[1].id'"));
  EXPECT_TRUE(contains(error_of([&] { object.objects("mixed"); }), "key 'mixed[1]'"));
  EXPECT_EQ(object.object_or_empty("gone").get_or<int>("x", 4), 4);
  EXPECT_TRUE(contains(error_of([&] { object.object_or_empty("gone").get<int>("x"); }), "key 'gone.x': missing"));
}

TEST(Json, InnerObjectsOutliveTheDocument) {
  const JsonObject inner = parse(R"({"a": {"b": {"c": "deep"}}})").object("a").object("b");
  EXPECT_EQ(inner.get<std::string>("c"), "deep");
}

TEST(Json, RefusesWhatIsNoJsonObject) {
  for (const std::string text :
       {"", "{", "{\"a\": 1,}", "{\"a\": NaN}", "{\"a\": 1e999}", "{\"a\": \"\xff\"}", "{} {}"}) {
    EXPECT_TRUE(contains(error_of([&] { parse(text); }), "config.json: not valid json: ")) << text;
  }
  EXPECT_EQ(error_of([&] { parse("[1]"); }),
            "config.json: not an object at the top: expected an object {...}, found a list");
  EXPECT_EQ(error_of([&] { parse(std::string_view("{}\0", 3)); }), "config.json: not valid json: holds a zero byte");
  EXPECT_NO_THROW(parse("{\"a\": 1, \"a\": 2}"));
}

TEST(Json, SurvivesDeepNesting) {
  const std::string deep = "{\"a\": " + std::string(1'000'000, '[') + std::string(1'000'000, ']') + "}";
  EXPECT_TRUE(contains(error_of([&] { parse(deep).get<int>("a"); }), "found a list"));
}

TEST(Json, ReadsFiles) {
  const TempFolder folder;
  put_file(folder / "a.json", R"({"x": 1})");
  EXPECT_EQ(JsonObject::read(folder / "a.json").get<int>("x"), 1);
  EXPECT_EQ(error_of([&] { JsonObject::read(folder / "b.json"); }),
            (folder / "b.json").string() + ": cannot open: No such file or directory");
  EXPECT_TRUE(contains(error_of([&] { JsonObject::read(folder.path()); }), "cannot read: Is a directory"));
}

TEST(Json, ReadsLines) {
  const TempFolder folder;
  write_atomically(folder / "m.jsonl", "{\"a\": 1}\n\n{\"a\": 2}");
  const std::vector<JsonObject> lines = JsonObject::read_lines(folder / "m.jsonl");
  ASSERT_EQ(lines.size(), 2u);
  EXPECT_EQ(lines[1].get<int64_t>("a"), 2);
  EXPECT_TRUE(contains(error_of([&] { (void)lines[1].get<int64_t>("b"); }), "m.jsonl:3"));
  write_atomically(folder / "m.jsonl", "{\"a\": 1}\n{\"a\"");
  EXPECT_TRUE(contains(error_of([&] { JsonObject::read_lines(folder / "m.jsonl"); }), "m.jsonl:2"));
}

}  // namespace
}  // namespace retrosparse
