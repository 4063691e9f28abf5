#include "base/json.h"

#include <nlohmann/json.hpp>

#include "checkpoint/checkpoint.h"
#include "fuzz.h"

namespace retrosparse {
namespace {

template <typename T>
void try_get(const JsonObject& object, const std::string& key) {
  try {
    (void)object.get_or<T>(key, T{});
  } catch (const Error& error) {
    fuzz_check(std::string_view(error.what()).starts_with("fuzz.json: key '"), "an Error names file and key");
  }
}

/// Asks for every key of every inner object as every type.
void read_all(const JsonObject& object, int depth) {
  for (const std::string& key : object.keys()) {
    try_get<bool>(object, key);
    try_get<int>(object, key);
    try_get<int64_t>(object, key);
    try_get<double>(object, key);
    try_get<std::string>(object, key);
    try_get<std::vector<int64_t>>(object, key);
    try_get<std::vector<std::string>>(object, key);
    try_get<std::map<std::string, double>>(object, key);
    if (depth > 0 && object.raw().at(key).is_object()) {
      read_all(object.object(key), depth - 1);
    }
  }
}

}  // namespace
}  // namespace retrosparse

/// A config.json or a model.safetensors.index.json.
RETROSPARSE_FUZZ_TARGET(bytes) {
  using namespace retrosparse;
  const JsonObject object = JsonObject::parse(as_text(bytes), "fuzz.json");
  read_all(object, 3);
  for (const auto& [name, file] : read_weight_map(object)) {
    fuzz_check(!file.empty() && file.find('/') == std::string::npos && file != "..", "a shard lies in the folder");
  }
}
