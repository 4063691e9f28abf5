#pragma once
#include <string_view>

namespace retrosparse {

/// Whether a file of the source checkpoint goes into its export as it is: those that belong to the model whatever its
/// attention is.
bool is_copied(std::string_view name);

/// Whether an export may have written a file of this name.
bool is_exported(std::string_view name);

}  // namespace retrosparse
