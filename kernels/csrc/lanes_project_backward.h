// Gradients of Gaussians to where the caller wants them.
#pragma once

#include "lanes_gradients.h"

namespace sparse3d {
namespace {

// Adds (or, with `set`, writes) n rows of `floats` floats that start `stride` apart in memory.
inline void put_rows(const float* rows, int64_t row_stride, int n, int floats, bool set, float* out, int64_t stride) {
    for (int l = 0; l < n; ++l, rows += row_stride, out += stride) {
        if (set) {
            __builtin_memcpy(out, rows, floats * sizeof(float));
        } else {
            for (int k = 0; k < floats; ++k) out[k] += rows[k];
        }
    }
}

// Adds (or, with `set`, writes) one number, or a row of 3 or 4, for each of n Gaussians from i on.
inline void put_numbers(V v, float* out, int64_t i, int n, bool set) {
    float numbers[kLanes];
    store(numbers, v);
    put_rows(numbers, 1, n, 1, set, out + i, 1);
}
inline void put_rows3(const V columns[3], float* out, int64_t i, int n, bool set) {
    float rows[3 * kLanes];
    store_columns3(columns, rows);
    put_rows(rows, 0, 1, 3 * n, set, out + 3 * i, 0);
}
inline void put_rows4(const V columns[4], float* out, int64_t i, int n, bool set) {
    float rows[4 * kLanes];
    store_columns4(columns, rows);
    put_rows(rows, 0, 1, 4 * n, set, out + 4 * i, 0);
}

// Of `colors`; what its rows have beyond the highest coefficients is 0.
inline void put_colors(const Gaussians& gaussians, const V columns[kMostFloats], float* out, int64_t i, int n, bool set) {
    const int stride = gaussians.color_stride;
    float rows[kLanes][kMostFloats];
    out += i * stride;
    if (gaussians.sh_degree < 0) {
        store_columns3(columns, rows[0]);
        put_rows(rows[0], 3, n, 3, set, out, 3);
        return;
    }
    // Whole rows of degree 3 are most of what is written, and nothing reads them soon.
    if (set && n == kLanes && stride == kMostFloats && reinterpret_cast<uintptr_t>(out) % 64 == 0) {
        for (int k = 0; k < kMostFloats; k += 16) store_columns<true>(columns + k, out + k, kMostFloats);
    } else {
        const int floats = stride < kMostFloats ? stride : kMostFloats;
        for (int k = 0; k < floats; k += 16) store_columns(columns + k, rows[0] + k, kMostFloats);
        put_rows(rows[0], kMostFloats, n, floats, set, out, stride);
    }
    for (int l = 0; set && stride > kMostFloats && l < n; ++l)
        __builtin_memset(out + l * int64_t{stride} + kMostFloats, 0, (stride - kMostFloats) * sizeof(float));
}

inline void clear_gradients(const Gaussians& gaussians, const GaussianGradients& grads, int64_t i, int n) {
    const int64_t stride = gaussians.color_stride;
    __builtin_memset(grads.means + 3 * i, 0, 3 * n * sizeof(float));
    __builtin_memset(grads.quats + 4 * i, 0, 4 * n * sizeof(float));
    __builtin_memset(grads.scales + 3 * i, 0, 3 * n * sizeof(float));
    __builtin_memset(grads.opacities + i, 0, n * sizeof(float));
    __builtin_memset(grads.colors + stride * i, 0, stride * n * sizeof(float));
}

void project_backward(const Gaussians& gaussians, const Camera& camera, int64_t begin, int64_t end, const SlotTable& table,
                      bool set, const GaussianGradients& grads, float* camera_sums) {
    V block[kSlotSize];  // gradient of R, t and the camera's centre
    for (int k = 0; k < kSlotSize; ++k) block[k] = V{};
    for (int64_t i = begin; i < end; i += kLanes) {
        const int n = end - i < kLanes ? static_cast<int>(end - i) : kLanes;
        Mask drawn;
        V sums[kSlotSize];
        if (!sum_slots(i, n, table, drawn, sums)) {
            if (set) clear_gradients(gaussians, grads, i, n);
            continue;
        }
        const Projected projected(gaussians, camera, i, n);
        const Gradients gradients(gaussians, camera, projected, i, n, drawn, sums);
        put_rows3(gradients.mean, grads.means, i, n, set);
        put_rows4(gradients.quat, grads.quats, i, n, set);
        put_rows3(gradients.scale, grads.scales, i, n, set);
        put_numbers(select(drawn, sums[kV] / projected.shape.opacity), grads.opacities, i, n, set);
        put_colors(gaussians, gradients.colors, grads.colors, i, n, set);
        for (int k = 0; k < kCameraSums; ++k) block[k] += gradients.camera[k];
    }
    finish_streaming();
    Slot total;
    sum_lanes(block, total.sums);
    for (int k = 0; k < kCameraSums; ++k) camera_sums[k] = total.sums[k];
}

}  // namespace
}  // namespace sparse3d
