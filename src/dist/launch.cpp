#include "dist/launch.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <charconv>
#include <cstdlib>
#include <limits>
#include <map>
#include <vector>

#include "base/error.h"

namespace retrosparse::dist {
namespace {

constexpr int kMaxInt = std::numeric_limits<int>::max();

int parse(const char* name, const std::string& text, int smallest, int largest) {
  int value = 0;
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, value);
  if (error != std::errc() || stop != end || value < smallest || value > largest) {
    const std::string limit =
        largest == kMaxInt ? fmt::format("from {}", smallest) : fmt::format("from {} to {}", smallest, largest);
    throw Error(fmt::format("environment variable {} is wrong", name))
        .expected("a whole number " + limit)
        .found(fmt::format("'{}'", text));
  }
  return value;
}

}  // namespace

std::optional<std::string> process_environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? std::nullopt : std::optional<std::string>(value);
}

std::optional<Launch> read_launch(const EnvironmentLookup& environment) {
  std::map<std::string, std::string> values;
  std::vector<std::string> missing;
  for (const char* name : {"RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"}) {
    if (const auto value = environment(name)) {
      values[name] = *value;
    } else {
      missing.emplace_back(name);
    }
  }
  if (values.empty()) {
    return std::nullopt;
  }
  if (!missing.empty()) {
    throw Error(
        fmt::format("environment variable {} is not set, but {} is", fmt::join(missing, ", "), values.begin()->first))
        .expected("RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and MASTER_PORT, all or none")
        .hint("torchrun sets them; unset them all to run in one process");
  }
  if (values["MASTER_ADDR"].empty()) {
    throw Error("environment variable MASTER_ADDR is empty").expected("a host name or address");
  }
  Launch launch;
  launch.world_size = parse("WORLD_SIZE", values["WORLD_SIZE"], 1, kMaxInt);
  launch.rank = parse("RANK", values["RANK"], 0, launch.world_size - 1);
  launch.local_rank = parse("LOCAL_RANK", values["LOCAL_RANK"], 0, launch.world_size - 1);
  launch.master_address = values["MASTER_ADDR"];
  launch.master_port =
      static_cast<uint16_t>(parse("MASTER_PORT", values["MASTER_PORT"], 1, std::numeric_limits<uint16_t>::max()));
  launch.agent_serves_store = environment("TORCHELASTIC_USE_AGENT_STORE").value_or("") == "True";
  if (const auto restart_count = environment("TORCHELASTIC_RESTART_COUNT")) {
    launch.restart_count = parse("TORCHELASTIC_RESTART_COUNT", *restart_count, 0, kMaxInt);
  }
  return launch;
}

}  // namespace retrosparse::dist
