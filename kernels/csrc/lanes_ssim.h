// L1 and SSIM between an image and its target, and their gradient: ssim.py and sparse3d/optimize/losses.py.
//
// SSIM is computed from the difference d = image - target instead of the image. With mean() the window, x the image, y
// the target, and a1, a2, b1, b2 the factors of Wang et al. 2004, eq. 13 (a1 a2 / (b1 b2)), b1 - a1 = mean(d)^2 and
// b2 - a2 = var(d), so that
//     SSIM = (1 - u) (1 - v),  u = mean(d)^2 / b1,  v = var(d) / b2.
// This costs as much, three windows, and is exact where the image equals its target, while
// var(x) = mean(x^2) - mean(x)^2 loses its digits to cancellation in smooth regions (close to the target, gradients in
// float32 are 1.2e-6 of the largest away from float64 this way, and 3e-4 by the textbook's).
#pragma once

#include "layout.h"
#include "simd.h"

namespace sparse3d {
namespace {

inline Mask load_mask(const int32_t* p) {
    Mask m;
    __builtin_memcpy(&m, p, sizeof m);
    return m;
}

constexpr float kC1 = 0.01f * 0.01f, kC2 = 0.03f * 0.03f;
constexpr int kReach = 5;  // pixels, of 11 taps
constexpr int kTaps = 2 * kReach + 1;
// Gaussian, sigma 1.5, sum of all taps 1: ssim.py, window_mean
constexpr float kWindow[kReach + 1] = {0.2660117249f,   0.2130055377f,    0.1093606895f,
                                       0.03600077213f, 0.007598758135f, 0.001028380084f};
constexpr int kRowFloats = 3 * kLossTileWidth + 32;   // floats of a windowed row: a tile and kReach pixels on each side
constexpr int kLineFloats = kRowFloats + 32;                // the same of a row before the window
static_assert(kRowFloats % kLanes == 0 && kRowFloats >= 3 * (kLossTileWidth + 2 * kReach), "whole vectors");
static_assert(kPlanePad >= 3 * kReach + kLanes, "planes can be read in whole vectors");

struct LossTile {
    int x0, y0, x1, y1;  // pixels, the ends not included
};

inline LossTile loss_tile(const LossTask& task, int64_t index) {
    const int across = (task.width + kLossTileWidth - 1) / kLossTileWidth;
    LossTile tile;
    tile.x0 = static_cast<int>(index % across) * kLossTileWidth;
    tile.y0 = static_cast<int>(index / across) * kLossTileHeight;
    tile.x1 = tile.x0 + kLossTileWidth < task.width ? tile.x0 + kLossTileWidth : task.width;
    tile.y1 = tile.y0 + kLossTileHeight < task.height ? tile.y0 + kLossTileHeight : task.height;
    return tile;
}

inline int whole_vectors(int floats) { return (floats + kLanes - 1) / kLanes * kLanes; }

// The window slid down the rows of one tile: along x as a row comes in, along y over the last 11.
template <int kQuantities>
struct SlidingWindow {
    alignas(64) float ring[kTaps][kQuantities][kRowFloats];
    const float* rows[kTaps];
    int turn = 0;

    // Takes the next row: sums around lines[q][3 * kReach + i] for i < floats, or zeros without lines. Meanwhile asks for what is at
    // `ahead`, as many floats of each: one cache line at a time, which no sum has to wait for.
    void push(const float (*lines)[kLineFloats], int floats, const float* const* ahead = nullptr) {
        float(*row)[kRowFloats] = ring[turn % kTaps];
        for (int q = 0; q < kQuantities; ++q)
            for (int i = 0; i < floats; i += kLanes) {
                if (ahead != nullptr) __builtin_prefetch(ahead[q] + i);
                V sum = {};
                if (lines != nullptr) {
                    static_assert(kReach == 5, "written out below");
                    const float* const p = lines[q] + i;
                    sum = kWindow[0] * load(p + 15);
                    sum += kWindow[1] * (load(p + 12) + load(p + 18));
                    sum += kWindow[2] * (load(p + 9) + load(p + 21));
                    sum += kWindow[3] * (load_across<6>(p) + load_across<24>(p));
                    sum += kWindow[4] * (load_across<3>(p) + load_across<27>(p));
                    sum += kWindow[5] * (load(p) + load(p + 30));
                }
                store(row[q] + i, sum);
            }
        ++turn;
        for (int k = 0; k < kTaps; ++k) rows[k] = ring[(turn + k) % kTaps][0];  // top to bottom, once 11 are there
    }

    // Windowed sum of quantity q in the row that came in kReach rows ago.
    V sum(int q, int i) const {
        const int at = q * kRowFloats + i;
        V sum = kWindow[0] * load(rows[kReach] + at);
#pragma GCC unroll 5
        for (int k = 1; k <= kReach; ++k)
            sum += kWindow[k] * (load(rows[kReach - k] + at) + load(rows[kReach + k] + at));
        return sum;
    }
};

// The pixels of a row that exist out of [first, last), and the float where they go in a line that begins at `first`.
struct LineSpan {
    int first, pixels, at;
};

inline LineSpan line_span(const LossTask& task, int first, int last) {
    const int begin = first > 0 ? first : 0, end = last < task.width ? last : task.width;
    return {begin, end - begin, 3 * (begin - first)};
}

inline float* plane_row(float* plane, const LossTask& task, int x, int y) {
    return plane + y * task.stride + kPlanePad + 3 * x;
}

// Asks for a piece of a row some rows ahead: rows of one tile lie on different pages, which the hardware does not
// follow (1008x756, one thread of a Xeon with AVX-512: 15.7 ms, 21.8 without).
inline void prefetch(const float* p, int floats) {
    for (int i = 0; i < floats; i += 16) __builtin_prefetch(p + i);
}
constexpr int kRowsAhead = 3;

// The target's window mean and variance.
void loss_target(const LossTask& task, int64_t begin, int64_t end) {
    for (int64_t index = begin; index < end; ++index) {
        const LossTile tile = loss_tile(task, index);
        const LineSpan span = line_span(task, tile.x0 - kReach, tile.x1 + kReach);
        const int floats = whole_vectors(3 * (tile.x1 - tile.x0));
        alignas(64) float lines[2][kLineFloats] = {};  // zero beyond the image
        SlidingWindow<2> window;
        for (int y = tile.y0 - kReach; y < tile.y1 + kReach; ++y) {
            const bool exists = y >= 0 && y < task.height;
            if (y + kRowsAhead >= 0 && y + kRowsAhead < task.height) {
                const int64_t ahead = 3 * (static_cast<int64_t>(y + kRowsAhead) * task.width + span.first);
                prefetch(task.target + ahead, 3 * span.pixels);
            }
            if (exists) {
                const float* const colors = task.target + 3 * (static_cast<int64_t>(y) * task.width + span.first);
                for (int i = 0; i < 3 * span.pixels; ++i) {
                    lines[0][span.at + i] = colors[i];
                    lines[1][span.at + i] = colors[i] * colors[i];
                }
            }
            window.push(exists ? lines : nullptr, floats);
            const int done = y - kReach;
            if (done < tile.y0) continue;
            float* const means = plane_row(task.target_mean, task, tile.x0, done);
            float* const variances = plane_row(task.target_variance, task, tile.x0, done);
            for (int i = 0; i < floats; i += kLanes) {
                const V mean = window.sum(0, i);
                store(means + i, mean);
                store(variances + i, max(window.sum(1, i) - mean * mean, V{}));
            }
        }
    }
}

// Sets the colours of pixels whose mask is 0 to 0, NaN too; without a branch, which a ragged mask would make costly.
inline void clear_masked(const uint8_t* mask, int pixels, float* colors) {
    for (int pixel = 0; pixel < pixels; ++pixel) {
        const uint32_t keep = -static_cast<uint32_t>(mask[pixel] != 0);
        uint32_t bits[3];
        __builtin_memcpy(bits, colors + 3 * pixel, sizeof bits);
        for (int channel = 0; channel < 3; ++channel) bits[channel] &= keep;
        __builtin_memcpy(colors + 3 * pixel, bits, sizeof bits);
    }
}

// d of row y into a line, from span.at on; the rest of the line is left as it is.
inline void difference_line(const LossTask& task, const LineSpan& span, int y, float* line) {
    const int64_t first = static_cast<int64_t>(y) * task.width + span.first;
    const float* const image = task.image + 3 * first;
    const float* const target = task.target + 3 * first;
    float* const d = line + span.at;
    for (int i = 0; i < 3 * span.pixels; ++i) d[i] = image[i] - target[i];
    if (task.mask != nullptr) clear_masked(task.mask + first, span.pixels, d);
}

// d, d^2 and y d of row y into lines, as difference_line.
inline void product_lines(const LossTask& task, const LineSpan& span, int y, float (*lines)[kLineFloats]) {
    difference_line(task, span, y, lines[0]);
    const float* const target = task.target + 3 * (static_cast<int64_t>(y) * task.width + span.first);
    float *const d = lines[0] + span.at, *const dd = lines[1] + span.at, *const yd = lines[2] + span.at;
    for (int i = 0; i < 3 * span.pixels; ++i) {
        dd[i] = d[i] * d[i];
        yd[i] = target[i] * d[i];
    }
}

// Sum of |line[i]| over i < floats.
inline double sum_of_sizes(const float* line, int floats) {
    double sum = 0.0;
    V sums = {};
    int i = 0;
    for (; i + kLanes <= floats; i += kLanes) {
        const V d = load(line + i);
        sums += max(d, -d);
    }
    for (; i < floats; ++i) sum += line[i] < 0.0f ? -line[i] : line[i];
    return sum + sum_of_lanes(sums);
}

// The gradient in row y of a tile, where the slopes windowed by mean(d), mean(d^2) (twice it) and mean(y d) are given:
// that of 1 - SSIM is the first + d times the second + y times the third, since the window is symmetric.
inline void gradient_row(const LossTask& task, const LossTile& tile, int y, const float (*slopes)[kRowFloats]) {
    const int64_t first = static_cast<int64_t>(y) * task.width + tile.x0;
    const float* const image = task.image + 3 * first;
    const float* const target = task.target + 3 * first;
    float* const gradient = task.gradient + 3 * first;
    const int pixels = tile.x1 - tile.x0;
    for (int i = 0; i < 3 * pixels; ++i) {
        const float d = image[i] - target[i];
        const float sign = d > 0.0f ? 1.0f : (d < 0.0f ? -1.0f : 0.0f);
        const float slope = slopes[0][i] + d * slopes[1][i] + target[i] * slopes[2][i];
        gradient[i] = task.l1_scale * sign + task.ssim_scale * slope;
    }
    if (task.mask != nullptr) clear_masked(task.mask + first, pixels, gradient);
}

inline void l1_tile(const LossTask& task, const LossTile& tile, double* sums) {
    const LineSpan span = {tile.x0, tile.x1 - tile.x0, 0};
    alignas(64) const float no_slopes[3][kRowFloats] = {};
    alignas(64) float line[kLineFloats];
    sums[0] = sums[1] = 0.0;
    for (int y = tile.y0; y < tile.y1; ++y) {
        difference_line(task, span, y, line);
        sums[0] += sum_of_sizes(line, 3 * span.pixels);
        if (task.gradient != nullptr) gradient_row(task, tile, y, no_slopes);
    }
}

// The sums of |d| and of 1 - SSIM over each tile, and the gradient of its pixels. A gradient needs the slopes of
// 1 - SSIM also kReach pixels around the tile; tiles do not share them, so that they never leave the cache.
void loss(const LossTask& task, int64_t begin, int64_t end) {
    for (int64_t index = begin; index < end; ++index) {
        const LossTile tile = loss_tile(task, index);
        double* const sums = task.tile_sums + 2 * index;
        if (task.target_mean == nullptr) {
            l1_tile(task, tile, sums);
            continue;
        }
        const int around = task.gradient != nullptr ? kReach : 0;
        const int pixels = tile.x1 - tile.x0;
        const int floats = whole_vectors(3 * pixels), wide = whole_vectors(3 * (pixels + 2 * around));
        const LineSpan span = line_span(task, tile.x0 - around - kReach, tile.x1 + around + kReach);
        alignas(64) int32_t in_tile[kRowFloats], in_image[kRowFloats];  // Masks of the floats of a windowed row
        for (int i = 0; i < wide; ++i) {
            const int x = 3 * (tile.x0 - around) + i;
            in_tile[i] = x >= 3 * tile.x0 && x < 3 * tile.x1 ? -1 : 0;
            in_image[i] = x >= 0 && x < 3 * task.width ? -1 : 0;
        }
        alignas(64) float lines[3][kLineFloats] = {}, slope_lines[3][kLineFloats] = {};  // zero beyond the image
        alignas(64) float slopes[3][kRowFloats];
        SlidingWindow<3> window, slope_window;
        sums[0] = sums[1] = 0.0;
        for (int y = tile.y0 - around - kReach; y < tile.y1 + around + kReach; ++y) {
            const bool exists = y >= 0 && y < task.height;
            const float* wanted[4] = {task.image, task.image, task.image, task.image};  // pieces of rows that come soon
            if (y + kRowsAhead >= 0 && y + kRowsAhead < task.height) {
                const int64_t ahead = 3 * (static_cast<int64_t>(y + kRowsAhead) * task.width + span.first);
                wanted[0] = task.image + ahead;
                wanted[1] = task.target + ahead;
                prefetch(wanted[0] + wide, 3 * span.pixels - wide);
                prefetch(wanted[1] + wide, 3 * span.pixels - wide);
                if (y >= kReach) {
                    wanted[2] = plane_row(task.target_mean, task, tile.x0 - around, y + kRowsAhead - kReach);
                    wanted[3] = plane_row(task.target_variance, task, tile.x0 - around, y + kRowsAhead - kReach);
                }
            }
            if (exists) product_lines(task, span, y, lines);
            if (y >= tile.y0 && y < tile.y1) sums[0] += sum_of_sizes(lines[0] + 3 * (around + kReach), 3 * pixels);
            window.push(exists ? lines : nullptr, wide, wanted);

            const int centre = y - kReach;
            if (centre < tile.y0 - around) continue;
            const bool centre_exists = centre >= 0 && centre < task.height;
            if (centre_exists) {
                const float* const target_mean = plane_row(task.target_mean, task, tile.x0 - around, centre);
                const float* const target_variance = plane_row(task.target_variance, task, tile.x0 - around, centre);
                V sum = {};
                for (int i = 0; i < wide; i += kLanes) {
                    __builtin_prefetch(wanted[3] + i);
                    const V mean_d = window.sum(0, i), mean_y = load(target_mean + i), mean_x = mean_y + mean_d;
                    const V var_d = window.sum(1, i) - mean_d * mean_d;
                    const V covariance = window.sum(2, i) - mean_y * mean_d;  // of y and d
                    const V b1 = mean_x * mean_x + mean_y * mean_y + kC1;
                    const V b2 = 2.0f * (load(target_variance + i) + covariance) + var_d + kC2;  // var(x) = var(y + d)
                    const V both = inverse(b1 * b2);
                    const V inverse_b1 = b2 * both, inverse_b2 = b1 * both;
                    const V u = mean_d * mean_d * inverse_b1, v = var_d * inverse_b2;
                    const V p = 1.0f - u, q = 1.0f - v;
                    sum += select(load_mask(in_tile + i), u + v * p);
                    // derivatives of 1 - SSIM by mean(d), mean(d^2) (doubled) and mean(y d)
                    const V by_mean = q * inverse_b1 * (mean_d - mean_x * u) - p * inverse_b2 * (mean_d - mean_x * v);
                    const V outer = 2.0f * p * inverse_b2;
                    const Mask inside = load_mask(in_image + i);
                    store(slope_lines[0] + i, select(inside, 2.0f * by_mean));
                    store(slope_lines[1] + i, select(inside, outer * q));
                    store(slope_lines[2] + i, select(inside, -outer * v));
                }
                if (centre >= tile.y0 && centre < tile.y1) sums[1] += sum_of_lanes(sum);
            }
            if (task.gradient == nullptr) continue;
            slope_window.push(centre_exists ? slope_lines : nullptr, floats);

            const int done = centre - kReach;
            if (done < tile.y0) continue;
            for (int k = 0; k < 3; ++k)
                for (int i = 0; i < floats; i += kLanes) store(slopes[k] + i, slope_window.sum(k, i));
            gradient_row(task, tile, done, slopes);
        }
    }
}

}  // namespace
}  // namespace sparse3d
