#pragma once
#include <filesystem>
#include <string>

#include "report/report.h"

namespace retrosparse {

/// Writes report.json and report.html into `folder`, each of which appears complete or not at all; creates the folder
/// where it is missing. Error: not writable, disk full, a table that is not [L][H] (see parse_report).
void write_report(const Report& report, const std::filesystem::path& folder);

/// Reads a report.json. Error: missing, unreadable, not a report (see parse_report).
Report read_report(const std::filesystem::path& path);

/// The page: one file that loads nothing else and shows the same offline. Texts of the report are shown, never
/// interpreted.
std::string report_html(const Report& report);

}  // namespace retrosparse
