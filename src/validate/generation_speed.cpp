#include "validate/generation_speed.h"

#include <algorithm>

#include "base/interrupt.h"
#include "base/progress.h"

namespace retrosparse {
namespace {

double median(std::vector<double> values) {
  std::ranges::sort(values);
  const size_t middle = values.size() / 2;
  return values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
}

}  // namespace

std::vector<GenerationSpeed> generation_speeds(const std::vector<TimedGeneration>& models, at::IntArrayRef prompt,
                                               int64_t new_tokens, int64_t runs) {
  std::vector<std::vector<double>> prefill(models.size()), decode(models.size());
  Progress progress("measure speed", runs * static_cast<int64_t>(models.size()), "runs");
  for (int64_t run = 0; run < runs; ++run) {
    for (size_t index = 0; index < models.size(); ++index) {
      InterruptGuard::check();
      const GenerateTimes times = models[index](prompt, new_tokens);
      prefill[index].push_back(static_cast<double>(prompt.size()) / times.prefill_seconds);
      decode[index].push_back(static_cast<double>(new_tokens - 1) / times.decode_seconds);
      progress.advance();
    }
  }
  progress.finish();
  std::vector<GenerationSpeed> speeds;
  for (size_t index = 0; index < models.size(); ++index) {
    speeds.push_back({median(prefill[index]), median(decode[index])});
  }
  return speeds;
}

}  // namespace retrosparse
