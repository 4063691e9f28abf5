#pragma once
#include <span>
#include <string_view>

namespace retrosparse {

/// A data file of the repository (a model family, a recipe) that is compiled into the program: see retrosparse_embed in
/// cmake/Targets.cmake.
struct EmbeddedFile {
  std::string_view name;  ///< without folder and extension
  std::string_view content;
};

}  // namespace retrosparse
