// What tests/parity/test_safetensors.py drives the library with.
//   safetensors_tool rewrite IN OUT        reads a file and writes all of it again
//   safetensors_tool shard DIR OUT BYTES   reads a checkpoint folder and writes it in shards of BYTES
//   safetensors_tool check FILES...        opens each file; prints "ok" or the error, a line each
#include <cstdio>
#include <cstdlib>
#include <string_view>

#include "base/error.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/safetensors.h"
#include "checkpoint/safetensors_writer.h"

namespace retrosparse {
namespace {

using Tensors = std::map<std::string, at::Tensor>;

void rewrite(const char* in, const char* out) {
  const SafetensorsFile file(in);
  Tensors tensors;
  for (const auto& [name, info] : file.tensors()) {
    tensors[name] = file.tensor(name);
  }
  write_safetensors(out, tensors, file.metadata());
}

void shard(const char* dir, const char* out, uint64_t bytes) {
  const Checkpoint checkpoint = Checkpoint::open(dir);
  Tensors tensors;
  for (const std::string& name : checkpoint.names()) {
    tensors[name] = checkpoint.tensor(name);
  }
  write_sharded(out, tensors, bytes);
}

void check(const char* path) {
  try {
    const SafetensorsFile file(path);
    for (const auto& [name, info] : file.tensors()) {
      (void)file.tensor(name);
    }
    std::puts("ok");
  } catch (const Error& error) {
    std::puts(error.what());
  }
}

}  // namespace
}  // namespace retrosparse

int main(int argc, char** argv) {
  const std::string_view command = argc > 1 ? argv[1] : "";
  try {
    if (command == "rewrite" && argc == 4) {
      retrosparse::rewrite(argv[2], argv[3]);
    } else if (command == "shard" && argc == 5) {
      retrosparse::shard(argv[2], argv[3], std::strtoull(argv[4], nullptr, 10));
    } else if (command == "check") {
      for (int i = 2; i < argc; ++i) {
        retrosparse::check(argv[i]);
      }
    } else {
      std::fputs("usage: see the first lines of safetensors_tool.cpp\n", stderr);
      return 2;
    }
  } catch (const retrosparse::Error& error) {
    std::fprintf(stderr, "error: %s\n", error.what());
    return 1;
  }
  return 0;
}
