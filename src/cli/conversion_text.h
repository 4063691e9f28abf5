#pragma once
#include <string>

#include "export/settings_json.h"

namespace retrosparse::cli {

/// Lines about what a converted model's heads see, for a person: the head plan, and layer by layer the retrieval heads
/// with what they may pick.
std::string describe_conversion(const ConvertedModel& model);

}  // namespace retrosparse::cli
