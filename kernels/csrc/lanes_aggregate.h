// Semi-global matching: semi_global of sweep.py. The lanes of a vector are neighbouring planes. Along a line of pixels
// both paths are followed at once, forward into scratch memory and back adding to the total; lines of an axis share no
// pixel.
#pragma once

#include "layout_sweep.h"
#include "simd.h"

namespace sparse3d {
namespace {

constexpr int kPixelsAhead = 2;
constexpr float kInfinity = __builtin_inff();

// Of p + floats, which may lie outside the array.
inline uintptr_t address(const float* p, int64_t floats) { return reinterpret_cast<uintptr_t>(p) + 4 * floats; }

inline float min_lanes(V v) {
#if defined(__AVX512F__)
    return _mm512_reduce_min_ps((__m512)v);
#elif defined(__AVX2__)
    __m128 m = _mm_min_ps(_mm256_castps256_ps128((__m256)v), _mm256_extractf128_ps((__m256)v, 1));
    m = _mm_min_ps(m, _mm_movehl_ps(m, m));
    return _mm_cvtss_f32(_mm_min_ss(m, _mm_movehdup_ps(m)));
#else
    float least = v[0];
    for (int l = 1; l < kLanes; ++l) least = v[l] < least ? v[l] : least;
    return least;
#endif
}

struct PathEnd {
    const float* values;  // the path's costs at its last pixel, with infinity before and after
    float least;          // of them
};

// Costs of a path at its next pixel, Hirschmüller 2008 eq. 13, into `next`; a path begins where end.values is null.
// With a total: adds them and `forth` to it, or sets it. `ahead` is the address of costs or totals needed soon: pixels
// of a line lie on different pages, which the hardware does not follow (252x189, 128 planes, 4 paths, one thread of a
// Xeon with AVX-512: 7.5 ms, 21 without).
inline float follow(const AggregateTask& task, const float* costs, PathEnd end, float jump, float* next,
                    const float* forth, float* total, uintptr_t ahead) {
    const V small = all(task.small), least = all(end.least), highest = all(end.least + jump);
    V lowest = all(kInfinity);
    for (int d = 0; d < task.planes; d += kLanes) {
        const int some = task.planes - d;
        __builtin_prefetch(reinterpret_cast<const void*>(ahead + 4 * d), 1);
        V value = some >= kLanes ? load(costs + d) : load_some(costs + d, some, kInfinity);
        if (end.values != nullptr) {
            const float* const before = end.values + d;
            const V neighbours = min(load(before - 1), load(before + 1)) + small;
            value = (value - least) + min(min(load(before), neighbours), highest);
        }
        store(next + d, value);
        lowest = min(lowest, value);
        if (total == nullptr) continue;
        V sum = load(forth + d) + value;
        if (some >= kLanes) {
            if (task.add) sum += load(total + d);
            store(total + d, sum);
        } else {
            for (int l = 0; l < some; ++l) total[d + l] = task.add ? total[d + l] + sum[l] : sum[l];
        }
    }
    return min_lanes(lowest);
}

// Lines [begin, end) along (dx, dy): those that begin in the first row, then those that begin at the left or right
// side.
void aggregate(const AggregateTask& task, int64_t begin, int64_t end, float* scratch) {
    const int64_t stride = task.stride;
    const int64_t step = static_cast<int64_t>(task.dy) * task.width + task.dx;  // pixels
    for (int64_t line = begin; line < end; ++line) {
        int64_t x = line, y = 0;
        if (task.dy == 0) {
            x = 0;
            y = line;
        } else if (line >= task.width) {
            x = task.dx > 0 ? 0 : task.width - 1;
            y = line - task.width + 1;
        }
        int64_t length = task.dy > 0 ? task.height - y : task.width;
        if (task.dx > 0 && task.width - x < length) length = task.width - x;
        if (task.dx < 0 && x + 1 < length) length = x + 1;
        const int64_t first = y * task.width + x;

        float* const forth = scratch + kSweepPlanes;  // (length, stride), infinity behind the planes of each row
        float* const back[2] = {forth + length * stride, forth + (length + 1) * stride};
        float* const jumps = forth + (length + 2) * stride;  // into pixel i from the one before
        for (int k = 0; k < kSweepPlanes; k += kLanes) store(scratch + k, all(kInfinity));
        for (int64_t i = 0; i < length + 2; ++i)
            for (int64_t d = task.planes / kLanes * kLanes; d < stride; d += kLanes)
                store(forth + i * stride + d, all(kInfinity));
        for (int64_t i = 1; i < length; ++i) {
            const float difference = task.guide[first + i * step] - task.guide[first + (i - 1) * step];
            const float edge = difference < 0.0f ? -difference : difference;
            const float large = task.large / (1.0f + task.edge_weight * edge);
            jumps[i] = large > task.small ? large : task.small;
        }
        const float* const costs = task.costs + first * task.planes;
        float* const total = task.total + first * task.planes;
        const int64_t move = step * task.planes;
        PathEnd path = {nullptr, 0.0f};
        for (int64_t i = 0; i < length; ++i) {
            float* const next = forth + i * stride;
            path.least = follow(task, costs + i * move, path, i > 0 ? jumps[i] : 0.0f, next, nullptr, nullptr,
                                address(costs, (i + kPixelsAhead) * move));
            path.values = next;
        }
        path = {nullptr, 0.0f};
        for (int64_t i = length - 1; i >= 0; --i) {
            float* const next = back[i & 1];
            path.least = follow(task, costs + i * move, path, i + 1 < length ? jumps[i + 1] : 0.0f, next,
                                forth + i * stride, total + i * move, address(total, (i - kPixelsAhead) * move));
            path.values = next;
        }
    }
}

}  // namespace
}  // namespace sparse3d
