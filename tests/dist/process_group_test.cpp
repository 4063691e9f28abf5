#include "dist/process_group.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/cuda.h>

#include <algorithm>
#include <memory>

#include "base/error.h"
#include "dist/worker_processes.h"

namespace retrosparse::dist {
namespace {

using testing::WorkerProcess;

struct Result {
  int exit_code;
  std::string output;
};

/// Runs ranks 0 to started - 1 of a group of `world_size` to their ends.
std::vector<Result> run(int started, int world_size, const std::string& scenario, const std::string& device = "cpu",
                        int port = testing::free_port()) {
  std::vector<std::unique_ptr<WorkerProcess>> workers;
  for (int rank = 0; rank < started; ++rank) {
    workers.push_back(std::make_unique<WorkerProcess>(std::vector<std::string>{device, scenario},
                                                      std::map<std::string, std::string>{
                                                          {"RANK", std::to_string(rank)},
                                                          {"WORLD_SIZE", std::to_string(world_size)},
                                                          {"LOCAL_RANK", std::to_string(rank)},
                                                          {"MASTER_ADDR", "127.0.0.1"},
                                                          {"MASTER_PORT", std::to_string(port)},
                                                          {"OMP_NUM_THREADS", "1"},
                                                      }));
  }
  std::vector<Result> results;
  for (const auto& worker : workers) {
    const int exit_code = worker->wait();
    results.push_back({exit_code, worker->output()});
  }
  return results;
}

void expect_all_well(const std::vector<Result>& results) {
  for (const Result& result : results) {
    EXPECT_EQ(result.exit_code, 0) << result.output;
    EXPECT_NE(result.output.find(": ok\n"), std::string::npos) << result.output;
  }
}

/// The error, and no stack trace of c10d's.
void expect_one_line(const Result& result) {
  EXPECT_EQ(std::count(result.output.begin(), result.output.end(), '\n'), 1) << result.output;
}

TEST(ProcessGroup, AloneEveryCollectiveIsTheIdentity) {
  const ProcessGroup group = ProcessGroup::from_environment(at::kCPU);
  EXPECT_EQ(group.rank(), 0);
  EXPECT_EQ(group.world_size(), 1);
  EXPECT_EQ(group.local_rank(), 0);
  EXPECT_TRUE(group.is_main());
  EXPECT_EQ(group.device(), at::Device(at::kCPU));
  const at::Tensor original = at::randn({3, 4});
  const at::Tensor tensor = original.clone();
  group.all_reduce_sum(tensor);
  group.all_reduce_mean(tensor);
  group.broadcast(tensor);
  group.barrier();
  EXPECT_TRUE(at::equal(tensor, original));
  const at::Tensor gathered = group.all_gather(tensor);
  EXPECT_TRUE(at::equal(gathered, original.unsqueeze(0)));
  EXPECT_FALSE(gathered.is_alias_of(tensor));
  EXPECT_THROW(group.all_reduce_mean(at::ones({2}, at::kLong)), std::invalid_argument);
}

TEST(ProcessGroup, OneTwoAndThreeProcessesOnTheCpu) {
  for (const int world_size : {1, 2, 3}) {
    SCOPED_TRACE(world_size);
    expect_all_well(run(world_size, world_size, "collectives"));
  }
}

TEST(ProcessGroup, NamesTheProcessesThatDidNotJoin) {
  const auto results = run(/*started=*/2, /*world_size=*/4, "someone-is-missing");
  for (const Result& result : results) {
    EXPECT_EQ(result.exit_code, 1);
    EXPECT_NE(result.output.find("expected 4 processes within 2 s, found "), std::string::npos) << result.output;
    expect_one_line(result);
  }
  EXPECT_NE(results[0].output.find("found no rank 2, 3"), std::string::npos) << results[0].output;
}

TEST(ProcessGroup, SaysSoWhenNothingListens) {
  const std::string port = std::to_string(testing::free_port());
  WorkerProcess worker(
      {"cpu", "someone-is-missing"},
      {{"RANK", "1"}, {"WORLD_SIZE", "2"}, {"LOCAL_RANK", "1"}, {"MASTER_ADDR", "127.0.0.1"}, {"MASTER_PORT", port}});
  const Result result{worker.wait(), worker.output()};
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_NE(result.output.find("rank 1 of 2 could not reach the store at 127.0.0.1:" + port), std::string::npos)
      << result.output;
  expect_one_line(result);
}

TEST(ProcessGroup, SaysSoWhenThePortIsTaken) {
  const testing::Listener listener;
  const auto results = run(1, 2, "someone-is-missing", "cpu", listener.port());
  EXPECT_EQ(results[0].exit_code, 1);
  EXPECT_NE(results[0].output.find("address already in use"), std::string::npos) << results[0].output;
}

TEST(ProcessGroup, AProcessThatDiesIsAnErrorInTheOthers) {
  const auto results = run(3, 3, "rank-1-dies");
  EXPECT_EQ(results[1].exit_code, 3);
  for (const int rank : {0, 2}) {
    EXPECT_EQ(results[rank].exit_code, 1);
    EXPECT_NE(results[rank].output.find("all_reduce_sum failed on rank " + std::to_string(rank) + " of 3"),
              std::string::npos)
        << results[rank].output;
  }
}

TEST(ProcessGroup, AProcessThatIsLateIsAnErrorInTheOthers) {
  const auto results = run(2, 2, "rank-1-is-late");
  EXPECT_EQ(results[0].exit_code, 1);
  EXPECT_NE(results[0].output.find("all_reduce_sum failed on rank 0 of 2"), std::string::npos) << results[0].output;
}

TEST(ProcessGroup, WaitsForRankZeroLongerThanForACollective) {
  for (const auto& result : run(3, 3, "rank-0-works-alone")) {
    EXPECT_EQ(result.exit_code, 0) << result.output;
  }
}

TEST(ProcessGroup, AskingForAGpuThatIsNotThereIsAnError) {
  const auto gpus = static_cast<int>(torch::cuda::device_count());
  const std::string device = "cuda:" + std::to_string(gpus);
  const auto results = run(1, 1, "collectives", device);
  EXPECT_EQ(results[0].exit_code, 1);
  EXPECT_NE(results[0].output.find("rank 0 of 1 has no GPU: expected " + device + ", found " + std::to_string(gpus)),
            std::string::npos)
      << results[0].output;
}

TEST(ProcessGroupGpu, OneProcess) {
  if (!torch::cuda::is_available()) {
    GTEST_SKIP() << "no CUDA device on this machine";
  }
  expect_all_well(run(1, 1, "collectives", "cuda"));
}

TEST(ProcessGroupGpu, TwoProcesses) {
  if (torch::cuda::device_count() < 2) {
    GTEST_SKIP() << "fewer than two CUDA devices on this machine";
  }
  expect_all_well(run(2, 2, "collectives", "cuda"));
}

}  // namespace
}  // namespace retrosparse::dist
