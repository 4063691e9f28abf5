#include "report/report_json.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <string>

#include "base/file.h"
#include "base/testing.h"
#include "report/report_files.h"
#include "sample_report.h"

namespace retrosparse {
namespace {

using nlohmann::json;

json sample_json() {
  return json(report_json(sample_report()));
}

std::string error_of(const json& document) {
  return retrosparse::error_of([&] { parse_report(JsonObject::from(document, "report.json")); });
}

// Equal texts of everything written are equal reports: every field is written.
std::string text_of(const Report& report) {
  return report_json(report).dump();
}

TEST(ReportJson, ComesBackAsItWas) {
  for (const Report& report :
       {sample_report(), sample_report(48, 32), training_free_sample(), text_only_sample(), bare_sample()}) {
    const std::string text = text_of(report);
    EXPECT_EQ(text_of(parse_report(JsonObject::parse(text, "report.json"))), text);
  }
}

TEST(ReportJson, FieldsHaveTheNamesOfTheStructs) {
  const json document = sample_json();
  EXPECT_EQ(document.at("version"), 1);
  EXPECT_EQ(document.at("model").at("num_key_value_heads"), 2);
  EXPECT_EQ(document.at("selection").at("chosen").at("far_tokens"), 187);
  EXPECT_EQ(document.at("validation").at("variants").at("paper").at("kl_plan"), 0.0112);
  EXPECT_EQ(document.at("validation").at("tasks").at(4).at("accuracy").at("sparse"), 0.9286);
  EXPECT_EQ(document.at("recipe").at("train").at("steps"), 300);
}

TEST(ReportJson, ValuesComeBackUnbent) {
  Report report = sample_report();
  report.selection->chosen->kl = 0.1 + 0.2;
  report.model.num_parameters = (int64_t{1} << 53) + 1;
  const Report back = parse_report(JsonObject::parse(text_of(report), "report.json"));
  EXPECT_EQ(back.selection->chosen->kl, 0.1 + 0.2);
  EXPECT_EQ(back.model.num_parameters, (int64_t{1} << 53) + 1);
  EXPECT_FALSE(back.validation->variants.dense->kl_plan.has_value());
}

TEST(ReportJson, NumbersThatAreNotFiniteAreNull) {
  Report report = sample_report();
  report.train->steps[3].kl = std::numeric_limits<double>::infinity();
  const json document(report_json(report));
  EXPECT_TRUE(document.at("train").at("steps").at(3).at("kl").is_null());
  const Report back = parse_report(JsonObject::from(document, "report.json"));
  EXPECT_TRUE(std::isnan(back.train->steps[3].kl));
  EXPECT_TRUE(std::isnan(back.selection->far_tokens[0][0]));  // a local head
}

TEST(ReportJson, MissingSectionsAreLeftOut) {
  const json document(report_json(bare_sample()));
  for (const char* section : {"profile", "train", "selection", "prefill", "distill", "validation"}) {
    EXPECT_FALSE(document.contains(section)) << section;
  }
}

TEST(ReportJson, AccuracyIsAbsentWhereNothingWasAsked) {
  const json document(report_json(text_only_sample()));
  for (const char* variant : {"dense", "plan", "sparse", "paper"}) {
    EXPECT_FALSE(document.at("validation").at("variants").at(variant).contains("accuracy")) << variant;
  }
  const Report back = parse_report(JsonObject::from(document, "report.json"));
  EXPECT_FALSE(back.validation->variants.sparse->accuracy.has_value());
}

TEST(ReportJson, RefusesUnknownAndMissingKeys) {
  json misspelt = sample_json();
  misspelt["train"]["steps"][7]["gate_lost"] = 1;
  EXPECT_TRUE(contains(error_of(misspelt), "report.json: key 'train.steps[7].gate_lost': unknown key"));
  EXPECT_TRUE(contains(error_of(misspelt), "did you mean 'gate_loss'?"));

  json missing = sample_json();
  missing["selection"]["chosen"].erase("kl");
  EXPECT_EQ(error_of(missing), "report.json: key 'selection.chosen.kl': missing");

  json other_version = sample_json();
  other_version["version"] = 2;
  EXPECT_TRUE(contains(error_of(other_version), "key 'version'"));
}

TEST(ReportJson, RefusesWrongTypes) {
  json text = sample_json();
  text["stages"][1]["seconds"] = "74";
  EXPECT_TRUE(contains(error_of(text), "key 'stages[1].seconds': wrong type: expected a number, found \"74\""));

  json number_in_table = sample_json();
  number_in_table["profile"]["mean"][2][5] = "x";
  EXPECT_TRUE(contains(error_of(number_in_table), "key 'profile.mean[2][5]': wrong type"));

  json half_a_head = sample_json();
  half_a_head["profile"]["retrieval_heads"][3] = {0.5};
  EXPECT_TRUE(
      contains(error_of(half_a_head), "key 'profile.retrieval_heads[3][0]': wrong type: expected a whole number"));
}

TEST(ReportJson, RefusesWhatDoesNotFitTheModel) {
  json short_row = sample_json();
  short_row["profile"]["spread"][1].erase(0);
  EXPECT_EQ(error_of(short_row),
            "report.json: key 'profile.spread[1]': wrong length: expected 8, one for each attention head, found 7");

  json other_layers = sample_json();
  other_layers["selection"]["far_tokens"].erase(0);
  EXPECT_TRUE(contains(error_of(other_layers), "key 'selection.far_tokens': wrong length: expected 6"));

  json no_such_head = sample_json();
  no_such_head["profile"]["retrieval_heads"][5] = {8};
  EXPECT_TRUE(contains(error_of(no_such_head), "key 'profile.retrieval_heads[5]': no such head"));

  json no_such_gate = sample_json();
  no_such_gate["selection"]["gates"][2]["layer"] = 6;
  EXPECT_TRUE(contains(error_of(no_such_gate), "key 'selection.gates[2]': no such head"));

  json rule = sample_json();
  rule["selection"]["points"][0]["rule"] = "top_q";
  EXPECT_TRUE(contains(error_of(rule), "key 'selection.points[0].rule': unknown value"));

  json huge = sample_json();
  huge["model"]["num_hidden_layers"] = int64_t{1} << 62;
  EXPECT_TRUE(contains(error_of(huge), "key 'model': impossible shape"));
}

TEST(ReportFiles, BothAppearAndAreReadAgain) {
  const TempFolder folder;
  write_report(sample_report(), folder / "new" / "report");
  const Report back = read_report(folder / "new" / "report" / "report.json");
  EXPECT_EQ(text_of(back), text_of(sample_report()));
  EXPECT_EQ(read_text(folder / "new" / "report" / "report.html"), report_html(back));
}

TEST(ReportFiles, KeepsTheOldReportWhereTheNewOneIsBadOrDoesNotFit) {
  const TempFolder folder;
  write_report(bare_sample(), folder.path());
  const std::string old_json = read_text(folder / "report.json"), old_html = read_text(folder / "report.html");
  Report bad = sample_report();
  bad.profile->mean.pop_back();
  EXPECT_TRUE(contains(retrosparse::error_of([&] { write_report(bad, folder.path()); }), "profile.mean"));
  {
    const FileSizeLimit full_disk(4096);
    retrosparse::error_of([&] { write_report(sample_report(), folder.path()); });
  }
  EXPECT_EQ(read_text(folder / "report.json"), old_json);
  EXPECT_EQ(read_text(folder / "report.html"), old_html);
  EXPECT_EQ(folder.names(), (std::set<std::string>{"report.html", "report.json"}));
}

TEST(ReportFiles, SaysWhatCannotBeWrittenOrRead) {
  const TempFolder folder;
  put_file(folder / "file", "x");
  EXPECT_TRUE(contains(retrosparse::error_of([&] { write_report(bare_sample(), folder / "file" / "report"); }),
                       (folder / "file").string()));
  EXPECT_TRUE(contains(retrosparse::error_of([&] { read_report(folder / "report.json"); }), "cannot open"));
  EXPECT_TRUE(contains(retrosparse::error_of([&] { read_report(folder / "file"); }), "not valid json"));
}

}  // namespace
}  // namespace retrosparse
