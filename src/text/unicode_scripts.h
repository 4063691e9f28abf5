#pragma once
#include <optional>
#include <string_view>

#include "text/code_points.h"

namespace retrosparse::unicode {

/// A script of Unicode 16.0 by its short or long name, in small letters without separators ("han", "oldpersian",
/// "xpeo"); none for any other name, and for Common, Inherited and Unknown.
std::optional<CodePoints> script(std::string_view folded_name);

}  // namespace retrosparse::unicode
