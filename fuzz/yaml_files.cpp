#include "base/yaml.h"

#include <nlohmann/json.hpp>

#include "fuzz.h"

namespace retrosparse {
namespace {

/// Reads every value as what it is.
void read_all(const YamlObject& yaml, int depth) {
  for (const std::string& key : yaml.keys()) {
    const nlohmann::json& value = yaml.raw().at(key);
    if (value.is_object() && depth > 0) {
      read_all(yaml.object(key), depth - 1);
    } else if (value.is_string()) {
      fuzz_check(yaml.get<std::string>(key) == value.get_ref<const std::string&>(), "a text is read as it is");
    } else {
      (void)yaml.has(key);
    }
  }
}

}  // namespace
}  // namespace retrosparse

/// A recipe or a model family.
RETROSPARSE_FUZZ_TARGET(bytes) {
  using namespace retrosparse;
  const YamlObject yaml = YamlObject::parse(as_text(bytes), "fuzz.yaml");
  read_all(yaml, 64);
  yaml.finish();
}
