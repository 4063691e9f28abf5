#pragma once
#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>

#include "report/report.h"

namespace retrosparse::cli {

/// The head plan that `path` means: profile/head_plan.json of a conversion's folder, of that folder's profile/, or the
/// file itself; none where `path` is something else. Error: a conversion that has not chosen its heads yet.
std::optional<std::filesystem::path> find_head_plan(const std::filesystem::path& path);

/// Reads it; its section `profile` is there. Error: not a head plan, or damaged.
Report read_profile(const std::filesystem::path& head_plan);

/// Lines for a person: the plan, and a table of the heads that retrieve most.
std::string describe_profile(const Report& report);

/// {"model": ..., "profile": ...} with the keys of report.json: all scores.
nlohmann::ordered_json profile_json(const Report& report);

}  // namespace retrosparse::cli
