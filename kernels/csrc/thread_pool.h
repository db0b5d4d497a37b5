// Threads that stay: own ones, since PyTorch wheels carry an OpenMP runtime of their own that a second one would meet.
#pragma once

#include <cstdint>
#include <functional>

namespace sparse3d {

// Calls work(begin, end, worker) for chunks that cover [0, count), on up to `threads` threads, the caller being one;
// 0 <= worker < threads, and no two calls with the same worker overlap. Which worker gets which chunk varies from run to
// run, so results must not depend on it. Returns when all is done and rethrows the first exception of `work`. Runs on the
// calling thread alone when the pool is already busy for another caller. Safe in a forked child.
void parallel_for(int64_t count, int64_t chunk, int threads,
                  const std::function<void(int64_t begin, int64_t end, int worker)>& work);

}  // namespace sparse3d
