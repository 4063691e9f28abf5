#include "export/output_folder.h"

#include <algorithm>

#include "base/json.h"
#include "export/exported_files.h"
#include "export/load_converted.h"

namespace retrosparse {

namespace fs = std::filesystem;

namespace {

bool is_earlier_export(const fs::path& folder) {
  try {
    if (fs::exists(folder / kAdapterSettings)) {
      return JsonObject::read(folder / kAdapterSettings).has("retrosparse");
    }
    return JsonObject::read(folder / "config.json").has("retrosparse");
  } catch (const Error&) {
    return false;  // missing or not ours
  }
}

bool is_inside(const fs::path& path, const fs::path& folder) {
  return std::mismatch(folder.begin(), folder.end(), path.begin(), path.end()).first == folder.end();
}

}  // namespace

AtomicFolder open_output_folder(const fs::path& out, const fs::path& source, bool replace) {
  fs::path target = fs::weakly_canonical(out);
  if (!target.has_filename()) {  // "out/"
    target = target.parent_path();
  }
  if (is_inside(fs::weakly_canonical(source), target)) {
    throw Error("the model that is exported lies there").file(out.string()).expected("another folder to export to");
  }
  if (fs::is_directory(target) && !fs::is_empty(target)) {
    if (!replace) {
      throw Error("the folder exists and is not empty")
          .file(out.string())
          .hint("--overwrite replaces an earlier export");
    }
    if (!is_earlier_export(target)) {
      throw Error("will not be replaced")
          .file(out.string())
          .expected("an earlier export")
          .found("other files")
          .hint("choose another folder or remove it by hand");
    }
    refuse_files_of_others(target);
  }
  return AtomicFolder(target, replace);
}

}  // namespace retrosparse
