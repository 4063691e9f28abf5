#include "convert/set_aside.h"

#include "base/leftovers.h"

namespace retrosparse {
namespace {

namespace fs = std::filesystem;

fs::path folder_aside(const Stage& stage, const fs::path& out) {
  return out / (stage.folder + ".before");
}

std::string record_aside(const Stage& stage) {
  return stage.name + ".before";
}

}  // namespace

void set_aside(const Stage& stage, const fs::path& out, Manifest& manifest) {
  forget_aside(stage, out, manifest);
  if (!fs::exists(out / stage.folder)) {
    return;
  }
  if (const auto record = manifest.find(stage.name)) {
    manifest.put(record_aside(stage), *record);
  }
  fs::rename(out / stage.folder, folder_aside(stage, out));
}

void put_back(const Stage& stage, const fs::path& out, Manifest& manifest) {
  const fs::path folder = out / stage.folder, aside = folder_aside(stage, out);
  if (stage.keeps_state) {
    remove_leftovers(folder / "state");
  }
  const bool has_own = stage.keeps_state && fs::exists(aside) && fs::exists(folder / "state");
  if (const auto record = manifest.find(record_aside(stage)); record && !has_own) {
    if (fs::exists(aside)) {  // else a kill came right behind the renaming
      fs::remove_all(folder);
      fs::rename(aside, folder);
    }
    manifest.put(stage.name, *record);
  }
  forget_aside(stage, out, manifest);
}

// The record first: one without a folder means that the folder is back in its place.
void forget_aside(const Stage& stage, const fs::path& out, Manifest& manifest) {
  if (manifest.find(record_aside(stage))) {
    manifest.remove(record_aside(stage));
  }
  fs::remove_all(folder_aside(stage, out));
}

}  // namespace retrosparse
