// A fuzzer's main() for compilers without libFuzzer. It understands the arguments of libFuzzer that the `fuzz` target
// of the build uses (-max_total_time=SECONDS -max_len=BYTES FOLDERS...), starts from the files in the folders and
// mutates them blindly from a fixed seed. An input that ends the process is left as ./crash-NAME.
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <string_view>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);
#if defined(__SANITIZE_ADDRESS__)
extern "C" void __sanitizer_set_death_callback(void (*callback)());
#endif

namespace {

constexpr unsigned kSlowestSeconds = 10;

std::string current_input;
std::string crash_file = "crash";

/// Only async-signal-safe calls.
void save_input() {
  const int descriptor = ::open(crash_file.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0666);
  if (descriptor >= 0) {
    [[maybe_unused]] const ssize_t count = ::write(descriptor, current_input.data(), current_input.size());
    ::close(descriptor);
  }
}

void save_input_and_die(int signal_number) {
  save_input();
  ::signal(signal_number, SIG_DFL);
  ::raise(signal_number);
}

/// Changes inputs at random: single bits and bytes, inserted, removed and doubled pieces, pieces of other seeds, and
/// numbers at the edges of their types, in text and in binary.
class Mutator {
 public:
  Mutator(std::vector<std::string> seeds, size_t longest) : seeds_(std::move(seeds)), longest_(longest) {}

  std::string next() {
    std::string input = seeds_[below(seeds_.size())];
    for (size_t edits = 1 + below(6); edits > 0; --edits) {
      edit(input);
    }
    input.resize(std::min(input.size(), longest_));
    return input;
  }

 private:
  size_t below(size_t bound) { return bound == 0 ? 0 : random_() % bound; }

  std::string piece(const std::string& text) {
    const size_t begin = below(text.size());
    return text.substr(begin, 1 + below(std::min<size_t>(text.size() - begin, 64)));
  }

  std::string edge_number() {
    static constexpr uint64_t kEdges[] = {0,          1,          127,       255,        65'535,
                                          0x7fffffff, 0xffffffff, INT64_MAX, UINT64_MAX, 100'000'001};
    uint64_t number = kEdges[below(std::size(kEdges))] + below(3) - 1;
    if (below(2) == 0) {
      return (below(4) == 0 ? "-" : "") + std::to_string(number);
    }
    return {reinterpret_cast<const char*>(&number), size_t{1} << below(4)};
  }

  void edit(std::string& input) {
    const size_t place = below(input.size() + 1);
    switch (below(7)) {
      case 0:
        if (place < input.size()) {
          input[place] = static_cast<char>(input[place] ^ (1 << below(8)));
        }
        break;
      case 1:
        if (place < input.size()) {
          input[place] = static_cast<char>(random_());
        }
        break;
      case 2:
        input.erase(place, 1 + below(16));
        break;
      case 3:
        input.insert(place, piece(seeds_[below(seeds_.size())]));
        break;
      case 4:
        input.insert(place, piece(input));
        break;
      case 5:
        input.replace(place, below(8), edge_number());
        break;
      default:
        replace_number(input, place);
    }
  }

  /// Replaces the digits that follow `place`.
  void replace_number(std::string& input, size_t place) {
    const size_t begin = input.find_first_of("0123456789", place);
    if (begin != std::string::npos) {
      const size_t end = std::min(input.find_first_not_of("0123456789", begin), input.size());
      input.replace(begin, end - begin, edge_number());
    }
  }

  std::mt19937_64 random_{1};
  std::vector<std::string> seeds_;
  size_t longest_;
};

void run(std::string input) {
  current_input = std::move(input);
  ::alarm(kSlowestSeconds);
  LLVMFuzzerTestOneInput(reinterpret_cast<const uint8_t*>(current_input.data()), current_input.size());
}

}  // namespace

int main(int argc, char** argv) {
  double seconds = 60;
  size_t longest = 4096;
  std::vector<std::string> seeds;
  for (const std::string_view argument : std::vector<std::string_view>(argv + 1, argv + argc)) {
    if (argument.starts_with("-max_total_time=")) {
      seconds = std::stod(std::string(argument.substr(16)));
    } else if (argument.starts_with("-max_len=")) {
      longest = std::stoull(std::string(argument.substr(9)));
    } else if (argument.starts_with("-artifact_prefix=")) {
      crash_file = std::string(argument.substr(17)) + "crash";
    } else if (!argument.starts_with("-")) {
      for (const auto& entry : std::filesystem::directory_iterator(argument)) {
        std::ifstream file(entry.path(), std::ios::binary);
        seeds.emplace_back(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
      }
    }
  }
  std::ranges::sort(seeds);  // folders are listed in any order
  seeds.emplace_back();

  for (const int signal_number : {SIGABRT, SIGALRM}) {
    ::signal(signal_number, save_input_and_die);
  }
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_set_death_callback(save_input);
#else
  ::signal(SIGSEGV, save_input_and_die);
#endif

  for (const std::string& seed : seeds) {
    run(seed);
  }
  Mutator mutator(seeds, longest);
  size_t inputs = seeds.size();
  const auto now = [] { return std::chrono::steady_clock::now(); };
  for (const auto end = now() + std::chrono::duration<double>(seconds); now() < end; ++inputs) {
    run(mutator.next());
  }
  std::printf("%s: %zu inputs from %zu seeds, no failure\n", argv[0], inputs, seeds.size());
}
