#include "adam.h"

#include "isa.h"
#include "thread_pool.h"

namespace sparse3d {

void selective_adam(const AdamTask& task, int64_t rows, int threads) {
    const Isa& isa = chosen_isa();
    parallel_for(rows, kAdamRows, threads, [&](int64_t begin, int64_t end, int) { isa.adam(task, begin, end); });
}

}  // namespace sparse3d
