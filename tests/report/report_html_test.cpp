#include <gtest/gtest.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <nlohmann/json.hpp>
#include <regex>
#include <string>

#include "base/testing.h"
#include "report/report_files.h"
#include "report/report_json.h"
#include "sample_report.h"

namespace retrosparse {
namespace {

size_t count(const std::string& text, std::string_view part) {
  size_t number = 0;
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + part.size())) {
    ++number;
  }
  return number;
}

// What a browser takes for the content of the data element: everything to the first end tag.
std::string data_of(const std::string& page) {
  const std::string begin = R"(<script type="application/json" id="data">)";
  const size_t from = page.find(begin) + begin.size();
  return page.substr(from, page.find("</script", from) - from);
}

TEST(ReportHtml, HoldsTheWholeReport) {
  for (const Report& report : {sample_report(), bare_sample()}) {
    EXPECT_EQ(nlohmann::json::parse(data_of(report_html(report))), nlohmann::json(report_json(report)));
  }
}

TEST(ReportHtml, LoadsNothing) {
  const std::string page = report_html(sample_report());
  EXPECT_EQ(count(page, "http://") + count(page, "https://"), 0U);
  const std::regex loader(R"(\bsrc\s*=|\bhref\s*=\s*["'](?!#)|@import|url\(|\bfetch\(|XMLHttpRequest|<link|<iframe)");
  EXPECT_FALSE(std::regex_search(page, loader));
  EXPECT_TRUE(contains(page, "default-src 'none'"));  // and a browser holds it to that
}

TEST(ReportHtml, HasNoPlaceholderLeft) {
  const std::string page = report_html(sample_report());
  EXPECT_EQ(count(page, "{{") + count(page, "}}\n</"), 0U);
  EXPECT_EQ(count(page, "<script"), 2U);
  EXPECT_EQ(count(page, "</script>"), 2U);
}

TEST(ReportHtml, HostileTextsStayTexts) {
  const std::string ordinary = report_html(sample_report());
  Report report = sample_report();
  const std::string hostile = "</script><script>alert(1)</script><!--<script> ' \" & \\ {{script}} {{report}} \xff";
  report.model.name = hostile;
  report.environment.device = hostile;
  report.stages[0].name = hostile;
  report.validation->tasks[0].task = hostile;
  report.recipe[hostile] = {{hostile, hostile}};
  const std::string page = report_html(report);
  EXPECT_EQ(count(page, "<script"), count(ordinary, "<script"));
  EXPECT_EQ(count(page, "</script"), count(ordinary, "</script"));
  EXPECT_EQ(count(page, "<!--"), 0U);
  // It reads back as it was, but for the byte that is not UTF-8.
  const std::string shown = hostile.substr(0, hostile.size() - 1) + "\xef\xbf\xbd";
  EXPECT_EQ(nlohmann::json::parse(data_of(page)).at("model").at("name"), shown);
}

TEST(ReportHtml, ScriptsMakeTextNodesOnly) {
  const std::string page = report_html(bare_sample());
  for (const char* dangerous :
       {"innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function"}) {
    EXPECT_EQ(count(page, dangerous), 0U) << dangerous;
  }
}

/// The page as a browser leaves it after its scripts ran and every table was opened; "" where no browser is installed.
std::string drawn(const Report& report) {
  const char* find = "command -v chromium chromium-browser google-chrome 2>/dev/null | head -n 1";
  const auto output_of = [](const std::string& command) {
    std::string output;
    const std::unique_ptr<FILE, int (*)(FILE*)> pipe(::popen(command.c_str(), "r"), ::pclose);
    std::array<char, 4096> buffer{};
    for (size_t size = 1; size > 0; output.append(buffer.data(), size)) {
      size = std::fread(buffer.data(), 1, buffer.size(), pipe.get());
    }
    return output;
  };
  std::string browser = output_of(find);
  if (browser.empty()) {
    return "";
  }
  browser.pop_back();  // the newline
  const TempFolder folder;
  std::string page = report_html(report);
  const std::string open = "document.querySelectorAll('details').forEach((one) => { one.open = true; });\n";
  put_file(folder / "report.html", page.insert(page.rfind("</script>"), open));
  return output_of("timeout 60 '" + browser + "' --headless --no-sandbox --disable-gpu --virtual-time-budget=2000 " +
                   "--user-data-dir='" + (folder / "profile").string() + "' --dump-dom 'file://" +
                   (folder / "report.html").string() + "' 2>/dev/null");
}

TEST(ReportHtml, BrowserDrawsIt) {
  const std::string full = drawn(sample_report());
  if (full.empty()) {
    GTEST_SKIP() << "no chromium or google-chrome that runs here";
  }
  EXPECT_EQ(count(full, "role=\"alert\""), 0U);
  EXPECT_GE(count(full, "<figure"), 9U);
  EXPECT_EQ(count(full, "<figure"), count(full, "class=\"picture\""));  // each has its chart
  EXPECT_TRUE(contains(full, "variable_tracking"));
  EXPECT_EQ(count(full, "NaN"), 0U);
  EXPECT_EQ(count(full, "undefined"), count(report_html(sample_report()), "undefined"));
}

// What the reader sees of it: not the scripts, whose texts would be found as well.
std::string body(const Report& report) {
  const std::string page = drawn(report);
  const size_t at = page.find("<main");
  return page.empty() ? "" : page.substr(at, page.find("</main>", at) - at);
}

// What stands in the first cell of a row by this name, and those after it, tags left out.
std::string row_of(const std::string& page, const std::string& name) {
  const size_t at = page.find(">" + name + "<");
  EXPECT_NE(at, std::string::npos) << name;
  return std::regex_replace(page.substr(at, page.find("</tr>", at) - at), std::regex("<[^>]*>"), "|");
}

TEST(ReportHtml, BrowserShowsWhatHeadsWereGivenAndWhatHasATail) {
  const std::string page = body(sample_report());
  if (page.empty()) {
    GTEST_SKIP() << "no chromium or google-chrome that runs here";
  }
  EXPECT_TRUE(contains(page, "p 0.8, floor 32 to 64, cap 256 to 512 by head, the rest by means of 64"));
  for (const char* series : {"top-p with gate, floor and cap, with tail", "top-p with gate, floor and cap, no tail",
                             "top-k, no tail", "paper's rule, no tail"}) {
    EXPECT_EQ(count(page, std::string(series) + "</li>"), 1U) << series;
  }
  // The first head kept floor and cap, the second has half of both.
  EXPECT_EQ(count(page, "<td>0.8</td><td>64</td><td>512</td>"), 1U);
  EXPECT_EQ(count(page, "<td>0.8</td><td>32</td><td>256</td>"), sample_report().selection->gates.size() - 1);
  Report dropped = sample_report();
  for (Report::SelectionPoint& point : dropped.selection->points) {
    point.tail_block.reset();
  }
  EXPECT_FALSE(contains(body(dropped), "no tail"));
}

TEST(ReportHtml, BrowserMarksNoAccuracyAsBestWithinOneStandardError) {
  Report report = sample_report();
  const std::string page = body(report);
  if (page.empty()) {
    GTEST_SKIP() << "no chromium or google-chrome that runs here";
  }
  const std::string few = row_of(page, "few_rows");
  EXPECT_TRUE(contains(few, "72.4 %|± 8.2"));
  EXPECT_EQ(count(few, "(best)"), 3U);  // 75.9 and twice 72.4 of 29 rows are the same, 20.7 is not
  report.validation->tasks.back().rows = 2900;
  EXPECT_EQ(count(row_of(body(report), "few_rows"), "(best)"), 1U);
  EXPECT_TRUE(contains(page, "Measured on 4,382 rows of 54 samples"));
}

TEST(ReportHtml, BrowserShowsWhatDeploymentLosesAndWhetherTheTargetHolds) {
  Report report = sample_report();
  report.prefill->mode = "dense";  // tiles have a target of their own, which counts besides
  const std::string page = body(report);
  if (page.empty()) {
    GTEST_SKIP() << "no chromium or google-chrome that runs here";
  }
  EXPECT_TRUE(contains(page, "<dt>KL to the dense model</dt><dd class=\"value\">0.0133</dd>"));
  EXPECT_TRUE(contains(page, "of 31,544"));  // what validation's rows had, not calibration's
  EXPECT_EQ(count(page, "missed</span>"), 0U);
  EXPECT_FALSE(contains(page, "calibration measured"));
  report.validation->variants.sparse->kl_plan = 0.168;
  const std::string missed = body(report);
  EXPECT_EQ(count(missed, "target 0.005 missed</span>"), 2U);  // the card, and the section on the selection
  EXPECT_TRUE(contains(missed, "calibration measured 0.0046 on 48 samples"));
  report.prefill->mode = "tiles";
  report.validation->variants.sparse->tile_density = 0.123;
  const std::string by_tiles = body(report);
  EXPECT_EQ(count(by_tiles, "target 0.017 missed</span>"), 2U);
  EXPECT_TRUE(contains(by_tiles, "In validation's prompts that was 12.3 % of the far tiles"));
}

TEST(ReportHtml, BrowserFallsBackToTextWhereNothingWasAsked) {
  const std::string page = body(text_only_sample());
  if (page.empty()) {
    GTEST_SKIP() << "no chromium or google-chrome that runs here";
  }
  EXPECT_EQ(count(page, "role=\"alert\""), 0U);
  EXPECT_TRUE(contains(page, "A token of running text costs 1.675 nats after the conversion, 1.671 before it"));
  EXPECT_FALSE(contains(page, "of the answer tokens are right"));
  EXPECT_FALSE(contains(page, "Task accuracy"));
  EXPECT_FALSE(contains(page, "Mean accuracy"));
  EXPECT_EQ(count(page, "NaN"), 0U);
}

TEST(ReportHtml, BrowserShowsHostileTexts) {
  Report report = sample_report();
  report.model.name = report.stages[0].name = report.validation->tasks[0].task = "</script><script>alert(1)</script>";
  const std::string page = drawn(report);
  if (page.empty()) {
    GTEST_SKIP() << "no chromium or google-chrome that runs here";
  }
  EXPECT_TRUE(contains(page, "<h1>&lt;/script&gt;&lt;script&gt;alert(1)&lt;/script&gt;</h1>"));
  EXPECT_EQ(count(page, "<script"), 2U);
}

TEST(ReportHtml, BrowserDrawsMissingSectionsAsAWord) {
  const std::string bare = drawn(bare_sample());
  if (bare.empty()) {
    GTEST_SKIP() << "no chromium or google-chrome that runs here";
  }
  EXPECT_EQ(count(bare, "role=\"alert\""), 0U);
  EXPECT_EQ(count(bare, "<figure"), 0U);
  EXPECT_EQ(count(bare, "class=\"absent\""), 7U);
}

}  // namespace
}  // namespace retrosparse
