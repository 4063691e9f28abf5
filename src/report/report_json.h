#pragma once
#include <nlohmann/json_fwd.hpp>

#include "base/json.h"
#include "report/report.h"

namespace retrosparse {

/// The report as it stands in report.json: the fields in their order, missing sections left out.
nlohmann::ordered_json report_json(const Report& report);

/// The same back. Error, naming file and dotted key: a key that is unknown, missing or of a wrong type; another version
/// of the format; a table that is not [L][H], a head that the model does not have, a word that is none of those
/// allowed.
Report parse_report(const JsonObject& json);

}  // namespace retrosparse
