#pragma once
#include <string>

#include "report/report.h"

namespace retrosparse {

/// What the types do not say. Throws Error, naming `file` and the key: a table that is not [L][H], a head that the
/// model does not have, a word that is none of those that report.h allows.
void check_report(const Report& report, const std::string& file);

}  // namespace retrosparse
