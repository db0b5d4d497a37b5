// Front-to-back compositing of tiles and its gradient: reference.py, _composite_tile. All pixels of a tile go through its
// list together.
#pragma once

#include "layout.h"
#include "simd.h"

namespace sparse3d {
namespace {

// A tile is kRows x kColumns vectors; a vector covers kWide x kHigh pixels.
constexpr int kWide = kLanes < kTile ? kLanes : kTile;
constexpr int kHigh = kLanes / kWide;
constexpr int kColumns = kTile / kWide;
constexpr int kRows = kTile / kHigh;
constexpr int kVectors = kRows * kColumns;

// Where a tile is, and its pixel centres relative to its middle, which keeps rounding small.
struct Tile {
    int left, top;
    float middle_x, middle_y;
    V x[kColumns], y[kRows];

    Tile(const Camera& camera, int64_t index) {
        left = static_cast<int>(index % camera.tiles_x) * kTile;
        top = static_cast<int>(index / camera.tiles_x) * kTile;
        middle_x = left + 0.5f * kTile;
        middle_y = top + 0.5f * kTile;
        for (int l = 0; l < kLanes; ++l) {
            for (int c = 0; c < kColumns; ++c) x[c][l] = c * kWide + l % kWide + 0.5f - 0.5f * kTile;
            for (int r = 0; r < kRows; ++r) y[r][l] = r * kHigh + l / kWide + 0.5f - 0.5f * kTile;
        }
    }

    // Calls visit(vector, lane, pixel index) for the pixels inside the image.
    template <class Visit>
    void for_each_pixel(const Camera& camera, Visit visit) const {
        for (int v = 0; v < kVectors; ++v) {
            for (int l = 0; l < kLanes; ++l) {
                const int px = left + v % kColumns * kWide + l % kWide;
                const int py = top + v / kColumns * kHigh + l / kWide;
                if (px < camera.width && py < camera.height) visit(v, l, static_cast<int64_t>(py) * camera.width + px);
            }
        }
    }
};

// The parts of log2(alpha) that a column of pixels shares: log2(alpha) = base - t^2, t = across y + start
struct Column {
    V dx, base, start;

    Column(const Splat& s, V x, float centre_x, float centre_y) {
        dx = x - centre_x;
        base = s.log2_opacity - s.along * dx * dx;
        start = s.across * (-centre_y - s.slope * dx);
    }

    V t(const Splat& s, V y) const { return s.across * y + start; }
};

// One step of reference.py, _composite_tile: alpha with its two cut-offs, and the transmittance behind it.
struct Step {
    Mask counted;  // not below ALPHA_MIN, and the pixel not finished
    V uncapped, alpha, weight, after;

    Step(V log2_alpha, V before) {
        uncapped = exp2(log2_alpha);
        const V capped = min(uncapped, all(kAlphaMax));
        const Mask bright = log2_alpha >= kLog2AlphaMin;
        alpha = select(bright, capped);
        const V taken = alpha * before;
        // A finished pixel keeps a transmittance at or below the minimum, so that it stays finished.
        after = before - taken;
        const Mask alive = after > kTransmittanceMin;
        weight = select(alive, taken);
        counted = bright & alive;
    }
};

inline bool all_finished(const V* transmittance) {
    V largest = transmittance[0];
    for (int v = 1; v < kVectors; ++v) largest = max(largest, transmittance[v]);
    return !any(largest > kTransmittanceMin);
}

void blend_forward(const BlendTask& task, int64_t tile_begin, int64_t tile_end) {
    const Camera& camera = *task.camera;
    for (int64_t index = tile_begin; index < tile_end; ++index) {
        const Tile tile(camera, index);
        V T[kVectors], r[kVectors], g[kVectors], b[kVectors], coverage[kVectors], depth[kVectors], median[kVectors];
        for (int v = 0; v < kVectors; ++v) T[v] = r[v] = g[v] = b[v] = coverage[v] = depth[v] = median[v] = V{};
        tile.for_each_pixel(camera, [&](int v, int l, int64_t) { T[v][l] = 1.0f; });  // outside: finished from the start

        const uint32_t end = task.tile_begin[index + 1];
        uint32_t e = task.tile_begin[index];
        while (e < end) {
            const uint32_t pause = end - e < 8 ? end : e + 8;  // whether all pixels are finished is asked now and then
            for (; e < pause; ++e) {
                __builtin_prefetch(&task.splats[task.entries[e + kPrefetch].gaussian]);
                const Splat& s = task.splats[task.entries[e].gaussian];
                for (int c = 0; c < kColumns; ++c) {
                    const Column column(s, tile.x[c], s.x - tile.middle_x, s.y - tile.middle_y);
#pragma GCC unroll 8
                    for (int row = 0; row < kRows; ++row) {
                        const int v = row * kColumns + c;
                        const V t = column.t(s, tile.y[row]);
                        const Step step(column.base - t * t, T[v]);
                        // The last Gaussian met with more than half left is the one that takes it to a half or below.
                        median[v] = T[v] > 0.5f ? all(s.depth) : median[v];
                        T[v] = step.after;
                        r[v] += step.weight * s.r;
                        g[v] += step.weight * s.g;
                        b[v] += step.weight * s.b;
                        depth[v] += step.weight * s.depth;
                        coverage[v] += step.weight;
                    }
                }
            }
            if (all_finished(T)) break;
        }
        task.tile_stop[index] = e;

        for (int v = 0; v < kVectors; ++v) {
            const V rest = 1.0f - coverage[v];
            r[v] += rest * camera.background[0];
            g[v] += rest * camera.background[1];
            b[v] += rest * camera.background[2];
            depth[v] /= max(coverage[v], all(1e-10f));
            median[v] = select(T[v] <= 0.5f, median[v]);
        }
        tile.for_each_pixel(camera, [&](int v, int l, int64_t pixel) {
            task.rgb[3 * pixel] = r[v][l];
            task.rgb[3 * pixel + 1] = g[v][l];
            task.rgb[3 * pixel + 2] = b[v][l];
            task.alpha[pixel] = coverage[v][l];
            task.depth[pixel] = depth[v][l];
            task.median[pixel] = median[v][l];
        });
    }
}

// Gradient of a tile, front to back again. With L the loss, T the transmittance before a Gaussian and w = alpha T,
//     dL/dalpha = T q - (what all Gaussians behind and the background contribute) / (1 - alpha),
// where q = dL/drgb . colour + dL/dcoverage is this Gaussian's share. What is behind is the finished pixel's sum less
// what has been passed, so nothing is stored for each pixel.
template <bool kWithDepth>
void blend_backward_tile(const BlendTask& task, int64_t index) {
    const Camera& camera = *task.camera;
    const Tile tile(camera, index);
    V T[kVectors], behind[kVectors];
    V grad_r[kVectors], grad_g[kVectors], grad_b[kVectors], grad_coverage[kVectors], grad_depth[kVectors], depth[kVectors];
    for (int v = 0; v < kVectors; ++v)
        T[v] = behind[v] = grad_r[v] = grad_g[v] = grad_b[v] = grad_coverage[v] = grad_depth[v] = depth[v] = V{};

    float background[3] = {0.0f, 0.0f, 0.0f};
    tile.for_each_pixel(camera, [&](int v, int l, int64_t pixel) {
        T[v][l] = 1.0f;
        const float coverage = task.alpha[pixel];
        if (task.grad_rgb != nullptr) {
            const float* grad = task.grad_rgb + 3 * pixel;
            const float* rgb = task.rgb + 3 * pixel;
            grad_r[v][l] = grad[0];
            grad_g[v][l] = grad[1];
            grad_b[v][l] = grad[2];
            behind[v][l] = grad[0] * rgb[0] + grad[1] * rgb[1] + grad[2] * rgb[2];
            for (int k = 0; k < 3; ++k) background[k] += grad[k] * (1.0f - coverage);
        }
        if (task.grad_alpha != nullptr) {
            grad_coverage[v][l] = task.grad_alpha[pixel];
            behind[v][l] += task.grad_alpha[pixel] * coverage;
        }
        if (kWithDepth) {
            // depth = sum w_i z_i / coverage: a share of dL/ddepth (z_i - depth) / coverage, and nothing behind at the end
            grad_depth[v][l] = task.grad_depth[pixel] / (coverage > 1e-10f ? coverage : 1e-10f);
            depth[v][l] = task.depth[pixel];
        }
    });
    for (int k = 0; k < 3; ++k) task.background_sums[3 * index + k] = background[k];

    const uint32_t stop = task.tile_stop[index];
    for (uint32_t e = task.tile_begin[index]; e < stop; ++e) {
        __builtin_prefetch(&task.splats[task.entries[e + kPrefetch].gaussian]);
        __builtin_prefetch(&task.slots[task.entries[e + kPrefetch].slot], 1);
        const Splat& s = task.splats[task.entries[e].gaussian];
        V sums[kSlotSize];
        for (int k = 0; k < kSlotSize; ++k) sums[k] = V{};
        for (int c = 0; c < kColumns; ++c) {
            const Column column(s, tile.x[c], s.x - tile.middle_x, s.y - tile.middle_y);
            V v0 = V{}, v1 = V{}, v2 = V{};  // sums of v, v t, v t^2 down the column
#pragma GCC unroll 8
            for (int row = 0; row < kRows; ++row) {
                const int v = row * kColumns + c;
                const V t = column.t(s, tile.y[row]);
                const Step step(column.base - t * t, T[v]);
                T[v] = step.after;
                V share = grad_coverage[v] + grad_r[v] * s.r + grad_g[v] * s.g + grad_b[v] * s.b;
                if (kWithDepth) share += grad_depth[v] * (s.depth - depth[v]);
                const V passed = step.weight * share;
                behind[v] -= passed;
                sums[kR] += step.weight * grad_r[v];
                sums[kG] += step.weight * grad_g[v];
                sums[kB] += step.weight * grad_b[v];
                if (kWithDepth) sums[kDepth] += step.weight * grad_depth[v];
                V alpha_slope = passed - step.alpha / (1.0f - step.alpha) * behind[v];  // alpha dL/dalpha
                alpha_slope = select(step.counted & (step.uncapped <= kAlphaMax), alpha_slope);
                const V vt = alpha_slope * t;
                v0 += alpha_slope;
                v1 += vt;
                v2 += vt * t;
            }
            const V vx = v0 * column.dx;
            sums[kV] += v0;
            sums[kVX] += vx;
            sums[kVXX] += vx * column.dx;
            sums[kVT] += v1;
            sums[kVXT] += v1 * column.dx;
            sums[kVTT] += v2;
        }
        sum_lanes(sums, task.slots[task.entries[e].slot].sums);
    }
    for (uint32_t e = stop; e < task.tile_begin[index + 1]; ++e)  // not reached: hidden behind
        for (float& sum : task.slots[task.entries[e].slot].sums) sum = 0.0f;
}

void blend_backward(const BlendTask& task, int64_t tile_begin, int64_t tile_end) {
    for (int64_t index = tile_begin; index < tile_end; ++index) {
        if (task.grad_depth != nullptr)
            blend_backward_tile<true>(task, index);
        else
            blend_backward_tile<false>(task, index);
    }
}

}  // namespace
}  // namespace sparse3d
