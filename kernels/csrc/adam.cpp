#include "adam.h"

#include "thread_pool.h"

namespace sparse3d {

void selective_adam(const Isa& isa, const AdamTask& task, int64_t rows, int threads) {
    parallel_for(rows, kAdamRows, threads, [&](int64_t begin, int64_t end, int) { isa.adam(task, begin, end); });
}

}  // namespace sparse3d
