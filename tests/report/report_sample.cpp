// report_sample FOLDER: writes made-up reports into FOLDER/full, /large, /training-free, /text-only and /bare, to look
// at the page.
#include <cstdio>
#include <filesystem>

#include "base/error.h"
#include "report/report_files.h"
#include "sample_report.h"

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fputs("usage: report_sample FOLDER\n", stderr);
    return 2;
  }
  const std::filesystem::path folder = argv[1];
  try {
    retrosparse::write_report(retrosparse::sample_report(), folder / "full");
    retrosparse::write_report(retrosparse::sample_report(48, 32), folder / "large");
    retrosparse::write_report(retrosparse::training_free_sample(), folder / "training-free");
    retrosparse::write_report(retrosparse::text_only_sample(), folder / "text-only");
    retrosparse::write_report(retrosparse::bare_sample(), folder / "bare");
  } catch (const retrosparse::Error& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
  return 0;
}
