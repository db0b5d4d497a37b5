// Prints what one core can do in fused multiply-adds of float32, a line for each width that it has: "avx512 240.5", GFLOP/s.
// Compiled and run by benchmarks/harness/fma.py.
#include <immintrin.h>

#include <algorithm>
#include <cstdio>
#include <ctime>

namespace {

constexpr long kRounds = 4000000;
constexpr int kChains = 12;  // independent sums: more than latency times units, fewer than registers
volatile float keep;

double seconds() {
    timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

__attribute__((target("avx2,fma"))) void run_avx2() {
    __m256 sum[kChains], factor = _mm256_set1_ps(0.999f), term = _mm256_set1_ps(1e-3f);
    for (__m256& s : sum) s = term;
    for (long k = 0; k < kRounds; ++k) {
#pragma GCC unroll 12
        for (int c = 0; c < kChains; ++c) sum[c] = _mm256_fmadd_ps(sum[c], factor, term);
    }
    for (const __m256& s : sum) keep = _mm256_cvtss_f32(s);
}

__attribute__((target("avx512f"))) void run_avx512() {
    __m512 sum[kChains], factor = _mm512_set1_ps(0.999f), term = _mm512_set1_ps(1e-3f);
    for (__m512& s : sum) s = term;
    for (long k = 0; k < kRounds; ++k) {
#pragma GCC unroll 12
        for (int c = 0; c < kChains; ++c) sum[c] = _mm512_fmadd_ps(sum[c], factor, term);
    }
    for (const __m512& s : sum) keep = _mm512_cvtss_f32(s);
}

void report(const char* name, void (*run)(), int lanes) {
    double best = 1e9;
    for (int k = 0; k < 15; ++k) {
        const double began = seconds();
        run();
        best = std::min(best, seconds() - began);
    }
    std::printf("%s %.1f\n", name, 2e-9 * lanes * kChains * kRounds / best);
}

}  // namespace

int main() {
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) report("avx2", run_avx2, 8);
    if (__builtin_cpu_supports("avx512f")) report("avx512", run_avx512, 16);
}
