// Where a source sees the pixels of a view: plane_transfer of sweep.py. The lanes of a vector are planes.
#pragma once

#include "layout_sweep.h"
#include "simd.h"

namespace sparse3d {
namespace {

// 1 / a and 1 / sqrt(a) to about 2e-7, for normal positive numbers.
#if defined(__AVX512F__)
inline V reciprocal(V a) {
    const V r = (V)_mm512_rcp14_ps((__m512)a);
    return r * (2.0f - a * r);
}
inline V inverse_sqrt(V a) {
    const V r = (V)_mm512_rsqrt14_ps((__m512)a);
    return r * (1.5f - 0.5f * a * r * r);
}
#elif defined(__AVX2__)
inline V reciprocal(V a) {
    const V r = (V)_mm256_rcp_ps((__m256)a);
    return r * (2.0f - a * r);
}
inline V inverse_sqrt(V a) {
    const V r = (V)_mm256_rsqrt_ps((__m256)a);
    return r * (1.5f - 0.5f * a * r * r);
}
#else
inline V reciprocal(V a) { return 1.0f / a; }
inline V inverse_sqrt(V a) { return 1.0f / sqrt(a); }
#endif

inline V to_float(Mask integers) { return __builtin_convertvector(integers, V); }
inline Mask truncate(V a) { return __builtin_convertvector(a, Mask); }

struct Warped {
    V x, y;      // pixels of the source
    Mask ahead;  // whether the point is in front of its camera
};

// A row of the reference, and what of the warp is the same for all of its pixels.
struct WarpedRow {
    const SourceCamera& camera;
    double row[3];

    WarpedRow(const SourceCamera& source, int y) : camera(source) {
        const double v = y + 0.5;
        for (int k = 0; k < 3; ++k) row[k] = source.turn[3 * k + 1] * v + source.turn[3 * k + 2];
    }

    Warped warp(int x, V depth) const {
        const double u = x + 0.5;
        const V nearest = all(kSweepNearest);
        const V z = depth * static_cast<float>(camera.turn[6] * u + row[2]) + camera.shift[2];
        const V inverse = reciprocal(max(z, nearest));
        const V px = (depth * static_cast<float>(camera.turn[0] * u + row[0]) + camera.shift[0]) * inverse;
        const V py = (depth * static_cast<float>(camera.turn[3] * u + row[1]) + camera.shift[1]) * inverse;
        return {px, py, z > nearest};
    }
};

}  // namespace
}  // namespace sparse3d
