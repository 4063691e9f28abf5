#include <algorithm>
#include <nlohmann/json.hpp>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>

#include "base/embedded.h"
#include "report/report_files.h"
#include "report/report_json.h"

namespace retrosparse {

std::span<const EmbeddedFile> builtin_report_page();  // page.html, style.css and the scripts, by retrosparse_embed

namespace {

// In this order they make one script.
constexpr std::string_view kScripts[] = {"dom",     "format", "axes",     "inspect",  "curves", "heads",
                                         "summary", "tables", "training", "sections", "main"};

std::string_view page_file(std::string_view name) {
  const std::span<const EmbeddedFile> files = builtin_report_page();
  const auto file = std::ranges::find(files, name, &EmbeddedFile::name);
  if (file == files.end()) {
    throw std::logic_error("no file of the report's page is called " + std::string(name));
  }
  return file->content;
}

/// JSON that may stand inside <script>: pure ASCII and without '<', so that nothing in it ends the element or starts a
/// comment. The replacement is sound because '<' occurs only inside JSON strings.
std::string inert(const nlohmann::ordered_json& json) {
  using nlohmann::ordered_json;
  const std::string text = json.dump(-1, ' ', true, ordered_json::error_handler_t::replace);
  std::string result;
  result.reserve(text.size());
  for (const char c : text) {
    if (c == '<') {
      result += "\\u003c";
    } else {
      result += c;
    }
  }
  return result;
}

/// Puts `content` in the place of the only `mark` in `page`.
void fill(std::string& page, std::string_view mark, std::string_view content) {
  const size_t place = page.find(mark);
  if (place == std::string::npos) {
    throw std::logic_error("page.html lacks " + std::string(mark));
  }
  page.replace(place, mark.size(), content);
}

}  // namespace

std::string report_html(const Report& report) {
  std::string script;
  for (const std::string_view name : kScripts) {
    script += page_file(name);
  }
  std::string page(page_file("page"));
  fill(page, "{{style}}", page_file("style"));
  fill(page, "{{script}}", script);
  fill(page, "{{report}}", inert(report_json(report)));  // last: a report that holds "{{script}}" stays what it is
  return page;
}

}  // namespace retrosparse
