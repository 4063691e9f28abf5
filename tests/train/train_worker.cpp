// One process of a training, for tests.
//
//   train_worker FOLDER KILLED_AT
//
// Trains the index of TinyTraining, two documents a step, with the processes that its environment describes, and goes
// on where a state lies in FOLDER. Kills itself behind step KILLED_AT (-1: never). Exit code 0: trained to the end.
#include <csignal>
#include <iostream>
#include <string>

#include "train/tiny_training.h"

namespace retrosparse {
namespace {

void run(const std::string& folder, int64_t killed_at) {
  TinyTraining training;
  training.options.documents_per_step = 2;
  const dist::ProcessGroup group = dist::ProcessGroup::from_environment(at::kCPU);
  DataStream data = TinyTraining::data(group);
  train_index(training.model, training.plan, training.indexer, data, training.options, group, folder,
              [&](const IndexTrainingStep& step) {
                if (step.step == killed_at) {
                  ::raise(SIGKILL);
                }
              });
}

}  // namespace
}  // namespace retrosparse

int main(int argc, char** argv) {
  if (argc != 3) {
    std::cerr << "usage: train_worker FOLDER KILLED_AT\n";
    return 2;
  }
  try {
    retrosparse::run(argv[1], std::stoll(argv[2]));
  } catch (const std::exception& error) {
    std::cerr << error.what() << "\n";
    return 1;
  }
  return 0;
}
