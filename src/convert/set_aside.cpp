#include "convert/set_aside.h"

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
  const auto record = manifest.find(record_aside(stage));
  const bool has_own = stage.keeps_state && fs::exists(out / stage.folder / "state");
  if (record && !has_own && fs::exists(folder_aside(stage, out))) {
    fs::remove_all(out / stage.folder);
    fs::rename(folder_aside(stage, out), out / stage.folder);
    manifest.put(stage.name, *record);
  }
  forget_aside(stage, out, manifest);
}

void forget_aside(const Stage& stage, const fs::path& out, Manifest& manifest) {
  fs::remove_all(folder_aside(stage, out));
  if (manifest.find(record_aside(stage))) {
    manifest.remove(record_aside(stage));
  }
}

}  // namespace retrosparse
