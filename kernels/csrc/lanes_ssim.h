// L1 and SSIM between an image and its target, and their gradient: ssim.py and sparse3d/optimize/losses.py.
//
// SSIM is computed from the difference d = image - target instead of the image. With mean() the window, x the image, y the
// target, and a1, a2, b1, b2 the factors of Wang et al. 2004, eq. 13 (a1 a2 / (b1 b2)), b1 - a1 = mean(d)^2 and
// b2 - a2 = var(d), so that
//     SSIM = (1 - u) (1 - v),  u = mean(d)^2 / b1,  v = var(d) / b2.
// This costs as much, three windows, and is exact where the image equals its target, while var(x) = mean(x^2) - mean(x)^2
// loses its digits to cancellation in smooth regions.
#pragma once

#include "layout.h"
#include "simd.h"

namespace sparse3d {
namespace {

constexpr float kC1 = 0.01f * 0.01f, kC2 = 0.03f * 0.03f;
constexpr int kReach = 5;  // pixels, of 11 taps
constexpr int kTaps = 2 * kReach + 1;
// Gaussian, sigma 1.5, sum of all taps 1: ssim.py, window_mean
constexpr float kWindow[kReach + 1] = {0.2660117249f,   0.2130055377f,    0.1093606895f,
                                       0.03600077213f, 0.007598758135f, 0.001028380084f};
constexpr int kTileFloats = 3 * kSsimTile;
constexpr int kLineFloats = kTileFloats + 2 * kSsimPad;
static_assert(kTileFloats % kLanes == 0 && kSsimPad >= 3 * kReach && kSsimPad >= kLanes, "vectors end inside the pads");

struct SsimTile {
    int x0, y0, x1, y1;  // pixels, the ends not included
    int floats;          // 3 (x1 - x0)
    int vectors;         // floats rounded up to whole vectors
};

inline SsimTile ssim_tile(const SsimTask& task, int64_t index) {
    const int across = (task.width + kSsimTile - 1) / kSsimTile;
    SsimTile tile;
    tile.x0 = static_cast<int>(index % across) * kSsimTile;
    tile.y0 = static_cast<int>(index / across) * kSsimTile;
    tile.x1 = tile.x0 + kSsimTile < task.width ? tile.x0 + kSsimTile : task.width;
    tile.y1 = tile.y0 + kSsimTile < task.height ? tile.y0 + kSsimTile : task.height;
    tile.floats = 3 * (tile.x1 - tile.x0);
    tile.vectors = (tile.floats + kLanes - 1) / kLanes * kLanes;
    return tile;
}

// Windowed sums along a row of pixels with three channels.
inline V along_x(const float* p) {
    V sum = kWindow[0] * load(p);
#pragma GCC unroll 5
    for (int k = 1; k <= kReach; ++k) sum += kWindow[k] * (load(p - 3 * k) + load(p + 3 * k));
    return sum;
}

// Windowed sums across 11 rows.
inline V along_y(const float* const rows[kTaps], int at) {
    V sum = kWindow[0] * load(rows[kReach] + at);
#pragma GCC unroll 5
    for (int k = 1; k <= kReach; ++k) sum += kWindow[k] * (load(rows[kReach - k] + at) + load(rows[kReach + k] + at));
    return sum;
}

// Calls finish(y, rows) for the rows of a tile, where along_y(rows, q * kTileFloats + i) is the window's sum of quantity q at
// float i of the row. lines(y, q) points to the q-th quantity of row y at the tile's first float, kSsimPad more on each
// side; rows outside the image are zero.
template <int kQuantities, class Lines, class Finish>
inline void slide_window(const SsimTask& task, const SsimTile& tile, Lines lines, Finish finish) {
    alignas(64) float ring[kTaps][kQuantities * kTileFloats];
    for (int y = tile.y0 - kReach; y < tile.y1 + kReach; ++y) {
        const int turn = y - tile.y0 + kReach;
        float* const row = ring[turn % kTaps];
        if (y >= 0 && y < task.height) {
            const float* sources[kQuantities];
            lines(y, sources);
            for (int q = 0; q < kQuantities; ++q)
                for (int i = 0; i < tile.vectors; i += kLanes) store(row + q * kTileFloats + i, along_x(sources[q] + i));
        } else {
            for (int i = 0; i < kQuantities * kTileFloats; i += kLanes) store(row + i, V{});
        }
        if (y - kReach < tile.y0) continue;
        const float* rows[kTaps];
        for (int k = 0; k < kTaps; ++k) rows[k] = ring[(turn + 1 + k) % kTaps];
        finish(y - kReach, rows);
    }
}

// Range of whole pixels of a row that the window of a tile meets, as a place in a line of kLineFloats and in the image.
struct LineSpan {
    int first_pixel, pixels, at;  // `at`: float of the line where the first pixel goes
};

inline LineSpan line_span(const SsimTask& task, const SsimTile& tile) {
    const int first = tile.x0 - kReach > 0 ? tile.x0 - kReach : 0;
    const int last = tile.x1 + kReach < task.width ? tile.x1 + kReach : task.width;
    return {first, last - first, kSsimPad + 3 * (first - tile.x0)};
}

inline float* plane_row(float* plane, const SsimTask& task, const SsimTile& tile, int y) {
    return plane + y * task.stride + kSsimPad + 3 * tile.x0;
}

// The target's window mean and variance.
void ssim_target(const SsimTask& task, int64_t begin, int64_t end) {
    for (int64_t index = begin; index < end; ++index) {
        const SsimTile tile = ssim_tile(task, index);
        const LineSpan span = line_span(task, tile);
        alignas(64) float lines[2][kLineFloats] = {};  // zero beyond the image
        slide_window<2>(
            task, tile,
            [&](int y, const float* sources[2]) {
                const float* const colors = task.target + 3 * (static_cast<int64_t>(y) * task.width + span.first_pixel);
                for (int i = 0; i < 3 * span.pixels; ++i) {
                    lines[0][span.at + i] = colors[i];
                    lines[1][span.at + i] = colors[i] * colors[i];
                }
                for (int q = 0; q < 2; ++q) sources[q] = lines[q] + kSsimPad;
            },
            [&](int y, const float* const rows[kTaps]) {
                float* const mean_row = plane_row(task.target_mean, task, tile, y);
                float* const variance_row = plane_row(task.target_variance, task, tile, y);
                for (int i = 0; i < tile.vectors; i += kLanes) {
                    const V mean = along_y(rows, i);
                    store(mean_row + i, mean);
                    store(variance_row + i, max(along_y(rows, kTileFloats + i) - mean * mean, V{}));
                }
            });
    }
}

// The tile's row y of d, d^2 and y d into `lines`, beginning at span.at; the rest of the lines is left as it is.
inline void difference_lines(const SsimTask& task, const LineSpan& span, int y, float (*lines)[kLineFloats]) {
    const int64_t first = static_cast<int64_t>(y) * task.width + span.first_pixel;
    const float* const image = task.image + 3 * first;
    const float* const target = task.target + 3 * first;
    float *const d = lines[0] + span.at, *const dd = lines[1] + span.at, *const yd = lines[2] + span.at;
    for (int i = 0; i < 3 * span.pixels; ++i) d[i] = image[i] - target[i];
    if (task.mask != nullptr)
        for (int pixel = 0; pixel < span.pixels; ++pixel)
            if (task.mask[first + pixel] == 0) d[3 * pixel] = d[3 * pixel + 1] = d[3 * pixel + 2] = 0.0f;
    for (int i = 0; i < 3 * span.pixels; ++i) {
        dd[i] = d[i] * d[i];
        yd[i] = target[i] * d[i];
    }
}

inline double sum_of_lanes(V v) {
    double sum = 0.0;
    for (int lane = 0; lane < kLanes; ++lane) sum += static_cast<double>(v[lane]);
    return sum;
}

// Zero from lane `count` on.
inline V first_lanes(V v, int count) {
    if (count >= kLanes) return v;
    for (int lane = count; lane < kLanes; ++lane) v[lane] = 0.0f;
    return v;
}

// The sums of |d| and 1 - SSIM over each tile, and 1 - SSIM's derivatives by mean(d), mean(y d) and half that by mean(d^2).
void loss_forward(const SsimTask& task, int64_t begin, int64_t end) {
    for (int64_t index = begin; index < end; ++index) {
        const SsimTile tile = ssim_tile(task, index);
        const LineSpan span = line_span(task, tile);
        alignas(64) float lines[3][kLineFloats] = {};  // zero beyond the image
        double l1 = 0.0, dissimilarity = 0.0;
        const auto add_l1 = [&] {
            V sum = {};
            for (int i = 0; i < tile.vectors; i += kLanes) {
                const V d = load(lines[0] + kSsimPad + i);
                sum += first_lanes(max(d, -d), tile.floats - i);
            }
            l1 += sum_of_lanes(sum);
        };
        if (task.target_mean == nullptr) {
            for (int y = tile.y0; y < tile.y1; ++y) {
                difference_lines(task, span, y, lines);
                add_l1();
            }
            task.tile_sums[2 * index] = l1;
            task.tile_sums[2 * index + 1] = 0.0;
            continue;
        }
        slide_window<3>(
            task, tile,
            [&](int y, const float* sources[3]) {
                difference_lines(task, span, y, lines);
                if (y >= tile.y0 && y < tile.y1) add_l1();
                for (int q = 0; q < 3; ++q) sources[q] = lines[q] + kSsimPad;
            },
            [&](int y, const float* const rows[kTaps]) {
                const float* const target_mean = plane_row(task.target_mean, task, tile, y);
                const float* const target_variance = plane_row(task.target_variance, task, tile, y);
                V sum = {};
                for (int i = 0; i < tile.vectors; i += kLanes) {
                    const int inside = tile.floats - i;
                    const V mean_d = along_y(rows, i), mean_y = load(target_mean + i), mean_x = mean_y + mean_d;
                    const V var_d = along_y(rows, kTileFloats + i) - mean_d * mean_d;
                    const V covariance = along_y(rows, 2 * kTileFloats + i) - mean_y * mean_d;  // of y and d
                    const V b1 = mean_x * mean_x + mean_y * mean_y + kC1;
                    const V b2 = 2.0f * (load(target_variance + i) + covariance) + var_d + kC2;  // var(x) = var(y + d)
                    const V both = 1.0f / (b1 * b2);
                    const V inverse_b1 = b2 * both, inverse_b2 = b1 * both;
                    const V u = mean_d * mean_d * inverse_b1, v = var_d * inverse_b2;
                    const V p = 1.0f - u, q = 1.0f - v;
                    sum += first_lanes(u + v * p, inside);
                    if (task.slopes[0] == nullptr) continue;
                    const V by_mean = 2.0f * (q * inverse_b1 * (mean_d - mean_x * u) - p * inverse_b2 * (mean_d - mean_x * v));
                    const V by_dd = p * q * inverse_b2, by_yd = -2.0f * p * v * inverse_b2;
                    const V slopes[3] = {by_mean, 2.0f * by_dd, by_yd};
                    for (int k = 0; k < 3; ++k)
                        store(plane_row(task.slopes[k], task, tile, y) + i, first_lanes(slopes[k], inside));
                }
                dissimilarity += sum_of_lanes(sum);
                // zeros beyond the image's sides, where the windows of loss_backward reach
                for (int k = 0; k < 3 && task.slopes[0] != nullptr; ++k) {
                    float* const row = plane_row(task.slopes[k], task, tile, y);
                    for (int i = 0; i < kSsimPad; ++i) {
                        if (tile.x0 == 0) row[i - kSsimPad] = 0.0f;
                        if (tile.x1 == task.width) row[tile.vectors + i] = 0.0f;
                    }
                }
            });
        task.tile_sums[2 * index] = l1;
        task.tile_sums[2 * index + 1] = dissimilarity;
    }
}

// The gradient of the image. Of 1 - SSIM it is mean(slope by mean(d)) + 2 d mean(slope by mean(d^2)) + y mean(slope by
// mean(y d)), since the window is symmetric.
void loss_backward(const SsimTask& task, int64_t begin, int64_t end) {
    for (int64_t index = begin; index < end; ++index) {
        const SsimTile tile = ssim_tile(task, index);
        alignas(64) float sums[3][kTileFloats] = {};
        const auto finish_row = [&](int y) {
            const int64_t first = static_cast<int64_t>(y) * task.width + tile.x0;
            const float* const image = task.image + 3 * first;
            const float* const target = task.target + 3 * first;
            float* const gradient = task.gradient + 3 * first;
            for (int i = 0; i < tile.floats; ++i) {
                const float d = image[i] - target[i];
                const float sign = d > 0.0f ? 1.0f : (d < 0.0f ? -1.0f : 0.0f);
                gradient[i] = task.l1_scale * sign + task.ssim_scale * (sums[0][i] + d * sums[1][i] + target[i] * sums[2][i]);
            }
            if (task.mask == nullptr) return;
            for (int pixel = 0; pixel < tile.x1 - tile.x0; ++pixel)
                if (task.mask[first + pixel] == 0)
                    gradient[3 * pixel] = gradient[3 * pixel + 1] = gradient[3 * pixel + 2] = 0.0f;
        };
        if (task.slopes[0] == nullptr) {
            for (int y = tile.y0; y < tile.y1; ++y) finish_row(y);
            continue;
        }
        slide_window<3>(
            task, tile,
            [&](int y, const float* sources[3]) {
                for (int k = 0; k < 3; ++k) sources[k] = plane_row(task.slopes[k], task, tile, y);
            },
            [&](int y, const float* const rows[kTaps]) {
                for (int k = 0; k < 3; ++k)
                    for (int i = 0; i < tile.vectors; i += kLanes) store(sums[k] + i, along_y(rows, k * kTileFloats + i));
                finish_row(y);
            });
    }
}

}  // namespace
}  // namespace sparse3d
