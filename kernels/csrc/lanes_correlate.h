// Plane sweep by correlation: feature_sweep of correlation.py. A dot product with a blend of four features is the blend
// of the four dot products, and neighbouring planes mostly fall between the same four. So each pixel's epipolar line is
// cut into runs of planes between the same four features, and each run takes four dot products however many planes it has.
// Lanes are planes where pixels are warped and products blended, and channels where these are summed.
#pragma once

#include "lanes_rows.h"
#include "lanes_transfer.h"

namespace sparse3d {
namespace {

constexpr int kRunsAtOnce = 4;  // 16 sums, as many as sum_lanes takes

// Scratch memory of a worker, each as long as the planes with a vector behind them.
struct PlaneRow {
    int32_t *cells, *begins;         // of the four features, by the upper left one; of the runs, and the end of the last
    float *right, *below, *scores, *sums;  // the point's place between the four; one source's products; all sources'

    PlaneRow(float* scratch, int64_t stride)
        : cells(reinterpret_cast<int32_t*>(scratch)),
          begins(cells + stride),
          right(scratch + 2 * stride),
          below(right + stride),
          scores(below + stride),
          sums(scores + stride) {}
};

// Between which features, and where between them, the source sees the pixel at each plane. The border of zeros makes
// every place beyond the image one within its outermost cells. Returns how many runs there are.
inline int find_runs(const CorrelateTask& task, const FeatureSource& source, const WarpedRow& row, int x,
                     const PlaneRow& planes) {
    const V zero = {};
    const V last_x = all(static_cast<float>(source.camera.width)), last_y = all(static_cast<float>(source.camera.height));
    const int columns = source.camera.width + 2;
    for (int d = 0; d < task.planes; d += kLanes) {
        const Warped at = row.warp(x, load(task.depths + d));
        // counted from the centre of the border's corner; max before min: not a number becomes 0
        const V sx = min(max(select(at.ahead, at.x + 0.5f), zero), last_x + 1.0f);
        const V sy = min(max(select(at.ahead, at.y + 0.5f), zero), last_y + 1.0f);
        const V left = min(to_float(truncate(sx)), last_x), top = min(to_float(truncate(sy)), last_y);
        store(planes.right + d, sx - left);
        store(planes.below + d, sy - top);
        const Mask cells = truncate(top) * columns + truncate(left);
        __builtin_memcpy(planes.cells + d, &cells, sizeof cells);
    }
    int runs = 0;
    planes.begins[runs++] = 0;
    for (int d = 1; d < task.planes; ++d) {  // written always, counted where a run begins: no branch to mispredict
        planes.begins[runs] = d;
        runs += planes.cells[d] != planes.cells[d - 1];
    }
    planes.begins[runs] = task.planes;
    return runs;
}

// Dot products of `feature` with the four of a cell, as lanes that are still to be summed.
inline void dot_cell(const CorrelateTask& task, const float* feature, const float* upper, const float* lower, V* sums) {
    V a = {}, b = {}, c = {}, d = {};
    for (int64_t k = 0; k < task.channels; k += kLanes) {
        const V f = load(feature + k);
        a += f * load(upper + k);
        b += f * load(upper + task.channels + k);
        c += f * load(lower + k);
        d += f * load(lower + task.channels + k);
    }
    sums[0] = a;
    sums[1] = b;
    sums[2] = c;
    sums[3] = d;
}

inline void correlate_pixel(const CorrelateTask& task, const FeatureSource& source, const float* feature, int runs,
                            const PlaneRow& planes) {
    const int64_t below = (source.camera.width + 2) * task.channels;
    for (int first = 0; first < runs; first += kRunsAtOnce) {
        V sums[4 * kRunsAtOnce];
        float dots[4 * kRunsAtOnce];
        for (int k = 0; k < kRunsAtOnce; ++k) {
            const int run = first + k < runs ? first + k : runs - 1;
            const float* const upper = source.features + planes.cells[planes.begins[run]] * task.channels;
            dot_cell(task, feature, upper, upper + below, sums + 4 * k);
        }
        sum_lanes(sums, dots);
        for (int k = 0; k < kRunsAtOnce && first + k < runs; ++k) {
            const V a = all(dots[4 * k]), c = all(dots[4 * k + 2]);
            const V ab = all(dots[4 * k + 1]) - a, cd = all(dots[4 * k + 3]) - c;
            // whole vectors: what goes beyond the run is overwritten by the next one
            for (int d = planes.begins[first + k]; d < planes.begins[first + k + 1]; d += kLanes) {
                const V right = load(planes.right + d), upper = a + right * ab;
                store(planes.scores + d, upper + load(planes.below + d) * (c + right * cd - upper));
            }
        }
    }
}

// Rows [begin, end) of the reference.
void correlate(const CorrelateTask& task, int64_t begin, int64_t end, float* scratch) {
    const PlaneRow planes(scratch, task.scratch_stride);
    for (int64_t y = begin; y < end; ++y)
        for (int x = 0; x < task.width; ++x) {
            const int64_t pixel = y * task.width + x;
            for (int d = 0; d < task.planes; d += kLanes) store(planes.sums + d, V{});
            for (int64_t s = 0; s < task.source_count; ++s) {
                const WarpedRow row(task.sources[s].camera, static_cast<int>(y));
                const int runs = find_runs(task, task.sources[s], row, x, planes);
                correlate_pixel(task, task.sources[s], task.reference + pixel * task.channels, runs, planes);
                for (int d = 0; d < task.planes; d += kLanes)
                    store(planes.sums + d, load(planes.sums + d) + load(planes.scores + d));
            }
            float* const out = task.scores + pixel * task.planes;
            int d = 0;
            for (; d + kLanes <= task.planes; d += kLanes) store(out + d, load(planes.sums + d) * task.scale);
            for (; d < task.planes; ++d) out[d] = planes.sums[d] * task.scale;
        }
}

}  // namespace
}  // namespace sparse3d
