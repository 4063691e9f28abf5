#include "export/export_adapter.h"

#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>

#include "base/error.h"
#include "base/file.h"
#include "checkpoint/safetensors_writer.h"
#include "export/base_identity.h"
#include "export/load_converted.h"
#include "export/model_card.h"
#include "export/output_folder.h"

namespace retrosparse {

void export_adapter(const ExportInput& input, const std::filesystem::path& out, bool replace) {
  if (input.weights != nullptr) {
    throw std::logic_error("an adapter cannot hold trained model weights");
  }
  AtomicFolder folder = open_output_folder(out, input.source.dir(), replace);
  const std::string identity = base_identity(input.source);
  write_safetensors(folder.staging() / kAdapterTensors, input.converted.sparse.indexer.named_tensors(),
                    {{"format", "pt"}});
  write_atomically(folder.staging() / "README.md", adapter_card(input, identity));
  const nlohmann::ordered_json json = {{"version", 1},
                                       {"base", {{"architecture", input.config.architecture}, {"identity", identity}}},
                                       {"retrosparse", settings_json(input.converted)}};
  write_atomically(folder.staging() / kAdapterSettings, json.dump(2) + "\n");
  folder.commit();
}

void check_adapter_base(const std::filesystem::path& folder, const Checkpoint& base) {
  const JsonObject json = JsonObject::read(folder / kAdapterSettings).object("base");
  const auto expected = json.get<std::string>("identity"), found = base_identity(base);
  if (expected != found) {
    throw json.error("identity", "the adapter was made for another checkpoint than " + base.dir().string())
        .expected(expected)
        .found(found);
  }
}

}  // namespace retrosparse
