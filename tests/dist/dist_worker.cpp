// One process of a group, for tests: joins the group that its environment describes and plays a scenario.
//
//   dist_worker DEVICE SCENARIO
//
// Exit code 0: everything was as it should be. Like every command, an error is one line on stderr and exit code 1.
#include <ATen/ATen.h>
#include <fmt/format.h>

#include <cstdlib>
#include <iostream>
#include <string>
#include <thread>

#include "base/error.h"
#include "dist/process_group.h"

namespace retrosparse::dist {
namespace {

using std::chrono::seconds;

void expect(bool condition, const std::string& what, const at::Tensor& found) {
  if (!condition) {
    std::ostringstream text;
    text << found.cpu();
    throw Error("wrong result of " + what).found(text.str());
  }
}

/// What rank `rank` brings to a collective: every element differs from all others'.
at::Tensor contribution(int64_t rank, at::TensorOptions options) {
  return (at::arange(12, at::kLong).view({3, 4}) + 100 * rank).to(options);
}

void play_collectives(const ProcessGroup& group, at::ScalarType dtype) {
  const at::TensorOptions options = at::TensorOptions(group.device()).dtype(dtype);
  const std::string type = c10::toString(dtype);
  std::vector<at::Tensor> all;
  for (int rank = 0; rank < group.world_size(); ++rank) {
    all.push_back(contribution(rank, options));
  }
  const at::Tensor expected_sum = at::stack(all).to(at::kDouble).sum(0).to(options);

  at::Tensor tensor = contribution(group.rank(), options);
  group.all_reduce_sum(tensor);
  expect(at::equal(tensor, expected_sum), "all_reduce_sum of " + type, tensor);

  at::Tensor wide = at::zeros({3, 8}, options);
  const at::Tensor view = wide.slice(1, 0, 8, 2);  // every other element
  view.copy_(contribution(group.rank(), options));
  group.all_reduce_sum(view);
  expect(at::equal(view, expected_sum), "all_reduce_sum of a view of " + type, view);
  expect(wide.slice(1, 1, 8, 2).eq(0).all().item<bool>(), "all_reduce_sum beside a view of " + type, wide);

  if (at::isFloatingType(dtype)) {
    at::Tensor mean = contribution(group.rank(), options).requires_grad_();
    group.all_reduce_mean(mean);
    expect(at::allclose(mean.detach(), expected_sum / group.world_size()), "all_reduce_mean of " + type, mean);
  }

  const at::Tensor gathered = group.all_gather(contribution(group.rank(), options).t());
  for (int rank = 0; rank < group.world_size(); ++rank) {
    expect(at::equal(gathered[rank], all[rank].t()), "all_gather of " + type, gathered);
  }

  tensor = contribution(group.rank(), options);
  group.broadcast(tensor);
  expect(at::equal(tensor, all[0]), "broadcast of " + type, tensor);
}

void play(const std::string& scenario, at::Device device) {
  ProcessGroup::Timeouts timeouts{.connect = seconds(60), .collective = seconds(60)};
  if (scenario == "someone-is-missing") {
    timeouts.connect = seconds(2);
  } else if (scenario == "rank-1-is-late" || scenario == "rank-0-works-alone") {
    timeouts.collective = seconds(2);
  } else if (scenario == "first-start-fails" && std::string(std::getenv("TORCHELASTIC_RESTART_COUNT")) == "0") {
    throw Error("this process fails at its first start");
  }
  const ProcessGroup group = ProcessGroup::from_environment(device, timeouts);
  if (scenario == "rank-1-dies") {
    const at::Tensor tensor = at::zeros({12}, at::TensorOptions(group.device()));
    group.all_reduce_sum(tensor);  // what succeeds here proves that nobody is still connecting
    if (group.rank() == 1) {
      std::_Exit(3);
    }
  }
  if (scenario == "rank-1-is-late" && group.rank() == 1) {
    std::this_thread::sleep_for(seconds(4));
  }
  if (scenario == "rank-0-works-alone") {
    for (int time = 0; time < 2; ++time) {
      if (group.is_main()) {
        std::this_thread::sleep_for(seconds(3));
      }
      group.wait_for_main();
    }
  }
  for (const at::ScalarType dtype : {at::kFloat, at::kDouble, at::kBFloat16, at::kHalf, at::kLong}) {
    play_collectives(group, dtype);
  }
  group.barrier();
  std::cout << fmt::format("rank {} of {} on {}: ok\n", group.rank(), group.world_size(), group.device().str())
            << std::flush;
}

}  // namespace
}  // namespace retrosparse::dist

int main(int argc, char** argv) {
  if (argc != 3) {
    std::cerr << "usage: dist_worker DEVICE SCENARIO\n";
    return 2;
  }
  try {
    retrosparse::dist::play(argv[2], at::Device(argv[1]));
  } catch (const std::exception& error) {
    std::cerr << error.what() << "\n";
    return 1;
  }
  return 0;
}
