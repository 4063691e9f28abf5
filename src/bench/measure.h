#pragma once
#include <functional>
#include <vector>

namespace retrosparse::bench {

/// Median time in milliseconds of `runs` runs, by device events, after one that is not counted (none where runs is 1:
/// something shorter has to have warmed up the code).
double median_ms(const std::function<void()>& run, int runs);

/// Time of a layer in microseconds: all layers, which have data of their own so that caches are cold, in one captured
/// graph; the median of its replays.
double graph_us(const std::vector<std::function<void()>>& layers, int replays);

/// Bytes read and written by a device copy of 1 GiB, in TB/s.
double copy_bandwidth();

}  // namespace retrosparse::bench
