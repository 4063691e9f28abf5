#include "report/report_files.h"

#include <nlohmann/json.hpp>

#include "base/file.h"
#include "base/json.h"
#include "report/check_report.h"
#include "report/report_json.h"

namespace retrosparse {

namespace fs = std::filesystem;

void write_report(const Report& report, const fs::path& folder) {
  const fs::path json_path = folder / "report.json";
  check_report(report, json_path.string());
  std::error_code failure;
  fs::create_directories(folder, failure);
  if (failure) {
    throw Error("cannot create the folder: " + failure.message()).file(folder.string());
  }
  // A name from elsewhere may not be UTF-8: shown with replacement characters rather than not at all.
  using nlohmann::ordered_json;
  write_atomically(json_path, report_json(report).dump(1, ' ', false, ordered_json::error_handler_t::replace) + "\n");
  write_atomically(folder / "report.html", report_html(report));
}

Report read_report(const fs::path& path) {
  return parse_report(JsonObject::read(path));
}

}  // namespace retrosparse
