#pragma once
#include <string>

#include "export/export_model.h"

namespace retrosparse {

/// README.md of an exported checkpoint: what it is, how to load it, its settings.
std::string model_card(const ExportInput& input);

/// README.md of an adapter.
std::string adapter_card(const ExportInput& input, const std::string& base_identity);

}  // namespace retrosparse
