// The forward warp, from a photo with depth to quads in the target: surface of warp_surface.py without its fringe.
#pragma once

#include "layout_warp.h"
#include "simd.h"

namespace sparse3d {
namespace {

typedef int8_t Bytes __attribute__((vector_size(kLanes)));

inline Mask lanes_below(int end) {
    Mask lane;
    for (int l = 0; l < kLanes; ++l) lane[l] = l;
    return lane < end;
}

// The nearest whole step of 1 / kWarpSnap; halves go up.
inline V snapped(V a) { return floor(a * kWarpSnap + 0.5f) * (1.0f / kWarpSnap); }

// Rows [begin, end) of vertices at pixel centres.
void warp_vertices(const WarpSource& source, int64_t begin, int64_t end) {
    const int width = source.width;
    const V zero = {}, one = all(1.0f), farthest = all(kWarpFarthestPx);
    V across;  // pixel centres of the first vector
    for (int l = 0; l < kLanes; ++l) across[l] = l + 0.5f;
    for (int64_t y = begin; y < end; ++y) {
        const double v = y + 0.5;
        float row[3], step[3];
        for (int k = 0; k < 3; ++k) {
            row[k] = static_cast<float>(source.turn[3 * k + 1] * v + source.turn[3 * k + 2]);
            step[k] = static_cast<float>(source.turn[3 * k]);
        }
        for (int x = 0; x < width; x += kLanes) {
            const int count = width - x;
            const int64_t at = y * width + x;
            const V depth = load_some(source.depth + at, count, 0.0f);
            const V u = across + static_cast<float>(x);
            const Mask known = (depth > zero) & (depth < all(__builtin_inff()));
            const V disparity = select(known, one / depth);
            const V z = u * step[2] + row[2] + disparity * source.shift[2];
            const Mask before = (disparity > zero) & (z > zero) & (z > disparity * source.near_plane);
            const V weight = one / (before ? z : one);
            const V px = (u * step[0] + row[0] + disparity * source.shift[0]) * weight;
            const V py = (u * step[1] + row[1] + disparity * source.shift[1]) * weight;
            const V inverse_depth = disparity * weight;
            const Mask valid = before & (max(px, -px) < farthest) & (max(py, -py) < farthest) &
                               (inverse_depth > all(1.0f / kWarpFarthest));
            store_some(source.x + at, snapped(select(valid, px)), count);
            store_some(source.y + at, snapped(select(valid, py)), count);
            store_some(source.weight + at, weight, count);
            store_some(source.inverse_depth + at, inverse_depth, count);
            store_some(source.disparity + at, select(valid, disparity), count);
        }
    }
}

struct WarpNeighbours {
    V x, y, disparity;

    WarpNeighbours(const WarpSource& source, int64_t at)
        : x(load(source.x + at)), y(load(source.y + at)), disparity(load(source.disparity + at)) {}

    Mask joined(const WarpNeighbours& other, float focal, float steepest) const {
        const V zero = {}, step = disparity - other.disparity, dx = x - other.x, dy = y - other.y;
        const Mask steep = max(step, -step) * focal > (disparity + other.disparity) * (0.5f * steepest);
        const Mask opened = dx * dx + dy * dy > all(kWarpOpened * kWarpOpened);
        return (disparity > zero) & (other.disparity > zero) & ~(steep & opened);
    }
};

// Rows [begin, end) of joints and slopes.
void warp_joins(const WarpSource& source, int64_t begin, int64_t end) {
    const int width = source.width;
    const Mask none = {};
    for (int64_t y = begin; y < end; ++y)
        for (int x = 0; x < source.full_stride; x += kLanes) {
            const int64_t at = y * width + x;
            const WarpNeighbours here(source, at), left(source, at - 1), right(source, at + 1);
            const bool first = y == 0, last = y + 1 == source.height;
            const WarpNeighbours above(source, first ? at : at - width), below(source, last ? at : at + width);
            const Mask inside = lanes_below(width - x);
            const Mask to_left = inside & ~lanes_below(1 - x) & here.joined(left, source.focal_x, source.steepest);
            const Mask to_right = lanes_below(width - 1 - x) & here.joined(right, source.focal_x, source.steepest);
            const Mask to_above = first ? none : inside & here.joined(above, source.focal_y, source.steepest);
            const Mask to_below = last ? none : inside & here.joined(below, source.focal_y, source.steepest);
            const Bytes bytes = __builtin_convertvector((to_right & 1) | (to_below & 2), Bytes);
            __builtin_memcpy(source.joined + y * source.full_stride + x, &bytes, sizeof bytes);
            if (x >= width) continue;
            const auto mean_step = [&](Mask back, const WarpNeighbours& before, Mask on, const WarpNeighbours& after) {
                const V sum = select(back, here.disparity - before.disparity) +
                              select(on, after.disparity - here.disparity);
                return (back & on) ? sum * 0.5f : sum;
            };
            store_some(source.slope_x + at, mean_step(to_left, left, to_right, right), width - x);
            store_some(source.slope_y + at, mean_step(to_above, above, to_below, below), width - x);
        }
}

inline float least(V v) {
    float result = v[0];
    for (int l = 1; l < kLanes; ++l) result = v[l] < result ? v[l] : result;
    return result;
}

// Quads of the rows of blocks [begin, end), and the blocks' bounds.
void warp_quads(const WarpSource& source, int64_t begin, int64_t end) {
    const int quad_rows = source.height - 1, blocks_across = static_cast<int>(source.full_stride / kWarpQuadColumns);
    for (int64_t block = begin * blocks_across; block < end * blocks_across; ++block) {
        const int top = static_cast<int>(block / blocks_across) * kWarpQuadRows;
        const int left = static_cast<int>(block % blocks_across) * kWarpQuadColumns;
        const int bottom = top + kWarpQuadRows < quad_rows ? top + kWarpQuadRows : quad_rows;
        const V infinity = all(__builtin_inff());
        V x0 = infinity, y0 = infinity, x1 = infinity, y1 = infinity;  // the latter two with their signs turned
        for (int y = top; y < bottom; ++y) {
            const uint8_t* const upper = source.joined + y * source.full_stride;
            const uint8_t* const lower = upper + source.full_stride;
            int8_t* const full = source.full + y * source.full_stride;
            for (int x = left; x < left + kWarpQuadColumns; ++x)
                full[x] = static_cast<int8_t>(-(upper[x] & (upper[x + 1] >> 1) & (upper[x] >> 1) & lower[x] & 1));
            for (int x = left; x < left + kWarpQuadColumns && x < source.width; x += kLanes) {
                Bytes bytes;
                __builtin_memcpy(&bytes, full + x, sizeof bytes);
                const Mask drawn = __builtin_convertvector(bytes, Mask);
                const int64_t at = static_cast<int64_t>(y) * source.width + x;
                const int64_t corners[4] = {at, at + 1, at + source.width, at + source.width + 1};
                for (const int64_t corner : corners) {
                    const V px = load(source.x + corner), py = load(source.y + corner);
                    x0 = min(x0, drawn ? px : infinity);
                    y0 = min(y0, drawn ? py : infinity);
                    x1 = min(x1, drawn ? -px : infinity);
                    y1 = min(y1, drawn ? -py : infinity);
                }
            }
        }
        source.bounds[block] = {least(x0), least(y0), -least(x1), -least(y1)};
    }
}

}  // namespace
}  // namespace sparse3d
