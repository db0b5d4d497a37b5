// The forward warp, the half pixel of surface around tears, borders and lone pixels: _fringe of warp_surface.py. The
// lanes of a vector are corners of pixels.
#pragma once

#include "lanes_warp.h"

namespace sparse3d {
namespace {

// The four pixels around a corner, clockwise: above left, above right, below right, below left. Their place from the
// one below right; (column, row) from each to the next one and to the one before it.
constexpr int kRingPlace[4][2] = {{-1, -1}, {0, -1}, {0, 0}, {-1, 0}};
constexpr int kRingNext[4][2] = {{1, 0}, {0, 1}, {-1, 0}, {0, -1}};
constexpr int kRingBefore[4][2] = {{0, 1}, {-1, 0}, {0, -1}, {1, 0}};

// A vertex of each lane's fringe.
struct FringeVertex {
    V u, v, x, y, weight, inverse_depth;
    Mask valid;
};

// The pixels around each lane's corner.
struct FringeRing {
    int32_t pixel[4][kLanes];  // 0 where there is none
    V u, v;                    // of the corner
    Mask joined[4];            // with the next one
    V disparity[4], slope_x[4], slope_y[4];
    FringeVertex vertex[4];

    FringeRing(const WarpSource& source, const WarpCorner* corners, int count) {
        u = v = V{};
        for (int k = 0; k < 4; ++k) {
            joined[k] = Mask{};
            disparity[k] = slope_x[k] = slope_y[k] = V{};
            vertex[k].x = vertex[k].y = vertex[k].weight = vertex[k].inverse_depth = V{};
            for (int l = 0; l < kLanes; ++l) pixel[k][l] = 0;
        }
        for (int l = 0; l < count; ++l) {
            u[l] = static_cast<float>(corners[l].x);
            v[l] = static_cast<float>(corners[l].y);
            bool exists[4];
            for (int k = 0; k < 4; ++k) {
                const int x = corners[l].x + kRingPlace[k][0], y = corners[l].y + kRingPlace[k][1];
                exists[k] = x >= 0 && y >= 0 && x < source.width && y < source.height;
                if (!exists[k]) continue;
                const int64_t at = static_cast<int64_t>(y) * source.width + x;
                pixel[k][l] = static_cast<int32_t>(at);
                disparity[k][l] = source.disparity[at];
                slope_x[k][l] = source.slope_x[at];
                slope_y[k][l] = source.slope_y[at];
                vertex[k].x[l] = source.x[at];
                vertex[k].y[l] = source.y[at];
                vertex[k].weight[l] = source.weight[at];
                vertex[k].inverse_depth[l] = source.inverse_depth[at];
            }
            const uint8_t* const below = source.joined + corners[l].y * source.full_stride + corners[l].x;
            const uint8_t* const above = below - source.full_stride;
            joined[0][l] = -static_cast<int>(exists[0] && exists[1] && (above[-1] & 1) != 0);
            joined[1][l] = -static_cast<int>(exists[1] && exists[2] && (above[0] & 2) != 0);
            joined[2][l] = -static_cast<int>(exists[2] && exists[3] && (below[-1] & 1) != 0);
            joined[3][l] = -static_cast<int>(exists[3] && exists[0] && (above[-1] & 2) != 0);
        }
        for (int k = 0; k < 4; ++k) {
            vertex[k].u = u + (kRingPlace[k][0] + 0.5f);
            vertex[k].v = v + (kRingPlace[k][1] + 0.5f);
            vertex[k].valid = disparity[k] > V{};
        }
    }

    // Disparity of pixel k's surface at an offset from its centre.
    V beyond(int k, float dx, float dy) const {
        const V own = disparity[k];
        return min(max(own + slope_x[k] * dx + slope_y[k] * dy, 0.5f * own), 2.0f * own);
    }

    // Which pixels are joined with pixel k, directly or by way of others.
    void together(int k, Mask out[4]) const {
        const Mask next = joined[k], next2 = next & joined[(k + 1) % 4], next3 = next2 & joined[(k + 2) % 4];
        const Mask before = joined[(k + 3) % 4], before2 = before & joined[(k + 2) % 4];
        out[k] = vertex[k].valid;
        out[(k + 1) % 4] = next | (before2 & joined[(k + 1) % 4]);
        out[(k + 2) % 4] = next2 | before2;
        out[(k + 3) % 4] = before | next3;
    }
};

inline FringeVertex seen(const WarpSource& source, V u, V v, V disparity) {
    V seen[3];
    for (int k = 0; k < 3; ++k)
        seen[k] = u * static_cast<float>(source.turn[3 * k]) + v * static_cast<float>(source.turn[3 * k + 1]) +
                  static_cast<float>(source.turn[3 * k + 2]) + disparity * source.shift[k];
    const V zero = {}, one = all(1.0f), farthest = all(kWarpFarthestPx);
    const Mask before = (disparity > zero) & (seen[2] > zero) & (seen[2] > disparity * source.near_plane);
    const V weight = one / (before ? seen[2] : one), x = seen[0] * weight, y = seen[1] * weight;
    const V inverse_depth = disparity * weight;
    const Mask valid = before & (max(x, -x) < farthest) & (max(y, -y) < farthest) &
                       (inverse_depth > all(1.0f / kWarpFarthest));
    return {u, v, snapped(select(valid, x)), snapped(select(valid, y)), weight, inverse_depth, valid};
}

// 1 / the largest singular value of the matrix with these columns, at most 1.
inline V sampling_of(V ux, V uy, V vx, V vy) {
    const V uu = ux * ux + uy * uy, vv = vx * vx + vy * vy, uv = ux * vx + uy * vy;
    const V largest = 0.5f * (uu + vv + sqrt((uu - vv) * (uu - vv) + 4.0f * uv * uv));
    return 1.0f / sqrt(max(largest, all(1.0f)));
}

// First and last pixel whose centre is between two numbers of steps 1 / kWarpSnap.
inline V first_centre(V low) { return floor(low + (0.5f - 1.0f / kWarpSnap)); }
inline V last_centre(V high) { return floor(high - 0.5f); }

// Colour of a fringe vertex: a pixel's, or the mean of those that are joined at a corner.
inline void fringe_color(const WarpSource& source, const FringeRing& ring, const Mask used[4], int lane, float out[3]) {
    const int64_t pixels = static_cast<int64_t>(source.width) * source.height;
    float count = 0.0f, sum[3] = {};
    for (int j = 0; j < 4; ++j) {
        if (!used[j][lane]) continue;
        const float* const own = source.image + ring.pixel[j][lane];
        for (int channel = 0; channel < 3; ++channel) sum[channel] += own[channel * pixels];
        count += 1.0f;
    }
    for (int channel = 0; channel < 3; ++channel) out[channel] = sum[channel] / count;
}

// Writes those of a triangle per lane that face the target and may cover the centre of one of its pixels. The first
// vertex is the corner; coverage and the pixels whose mean is the colour are given for each vertex.
inline FringeTriangle* add_fringe(const WarpSource& source, const FringeRing& ring, Mask wanted,
                                  const FringeVertex* const vertex[3], const float coverage[3],
                                  const Mask* const used[3], FringeTriangle* out) {
    const FringeVertex &a = *vertex[0], &b = *vertex[1], &c = *vertex[2];
    const V zero = {};
    const V first_x = first_centre(min(a.x, min(b.x, c.x))), last_x = last_centre(max(a.x, max(b.x, c.x)));
    const V first_y = first_centre(min(a.y, min(b.y, c.y))), last_y = last_centre(max(a.y, max(b.y, c.y)));
    const V x0 = max(first_x, zero), x1 = min(last_x, all(source.target_width - 1.0f));
    const V y0 = max(first_y, zero), y1 = min(last_y, all(source.target_height - 1.0f));
    const V bx = b.x - a.x, by = b.y - a.y, cx = c.x - a.x, cy = c.y - a.y;
    wanted &= a.valid & b.valid & c.valid & (x0 <= x1) & (y0 <= y1) & (bx * cy - by * cx > zero);
    if (!any(wanted)) return out;
    // most have one centre in their bounds, and it is not inside: products of so few steps are exact
    const V px = first_x + 0.5f - a.x, py = first_y + 0.5f - a.y;
    const V of_c = bx * py - by * px, of_b = cy * px - cx * py, of_a = bx * cy - by * cx - of_b - of_c;
    wanted &= (min(min(of_a, of_b), of_c) >= zero) | (first_x < last_x) | (first_y < last_y);
    if (!any(wanted)) return out;
    const V p = b.u - a.u, q = b.v - a.v, r = c.u - a.u, s = c.v - a.v, scale = 1.0f / (p * s - q * r);
    const V sampling = sampling_of((s * bx - q * cx) * scale, (s * by - q * cy) * scale, (p * cx - r * bx) * scale,
                                   (p * cy - r * by) * scale);
    for (unsigned left = lane_bits(wanted); left != 0; left &= left - 1) {
        const int l = __builtin_ctz(left);
        out->x0 = static_cast<int16_t>(x0[l]);
        out->y0 = static_cast<int16_t>(y0[l]);
        out->x1 = static_cast<int16_t>(x1[l]);
        out->y1 = static_cast<int16_t>(y1[l]);
        out->sampling = sampling[l];
        for (int k = 0; k < 3; ++k) {
            out->x[k] = vertex[k]->x[l];
            out->y[k] = vertex[k]->y[l];
            out->weight[k] = vertex[k]->weight[l];
            out->inverse_depth[k] = vertex[k]->inverse_depth[l];
            out->coverage[k] = coverage[k];
            fringe_color(source, ring, used[k], l, out->color[k]);
        }
        ++out;
    }
    return out;
}

// Fringe triangles around `count` corners, at most kFringeOfCorner for each; returns how many.
int64_t warp_fringe(const WarpSource& source, const WarpCorner* corners, int count, FringeTriangle* triangles) {
    // coverage of the vertices: corner and two pixels; corner, pixel, side; corner, side, pixel
    constexpr float to_pixel[3] = {0.0f, 1.0f, 1.0f};
    constexpr float to_side[3] = {0.0f, 1.0f, 0.0f}, from_side[3] = {0.0f, 0.0f, 1.0f};
    FringeTriangle* out = triangles;
    for (int first = 0; first < count; first += kLanes) {
        const FringeRing ring(source, corners + first, count - first < kLanes ? count - first : kLanes);
        V estimates[4];
        for (int k = 0; k < 4; ++k)
            estimates[k] = ring.beyond(k, 0.5f * (kRingNext[k][0] + kRingBefore[k][0]),
                                       0.5f * (kRingNext[k][1] + kRingBefore[k][1]));
        for (int k = 0; k < 4; ++k) {
            const FringeVertex& pixel = ring.vertex[k];
            if (!any(pixel.valid)) continue;
            Mask together[4], alone[4] = {}, other[4] = {};
            ring.together(k, together);
            alone[k] = pixel.valid;
            other[(k + 1) % 4] = pixel.valid;
            V sum = {}, members = {};
            for (int j = 0; j < 4; ++j) {
                sum += select(together[j], estimates[j]);
                members += select(together[j], all(1.0f));
            }
            const FringeVertex corner = seen(source, ring.u, ring.v, sum / max(members, all(1.0f)));
            const auto side = [&](const int to[2]) {
                const float dx = 0.5f * to[0], dy = 0.5f * to[1];
                return seen(source, pixel.u + dx, pixel.v + dy, ring.beyond(k, dx, dy));
            };
            const Mask next = ring.joined[k], torn = pixel.valid & ~next;
            if (any(next)) {  // the triangle between two joined pixels is the first one's
                const FringeVertex* const vertex[3] = {&corner, &pixel, &ring.vertex[(k + 1) % 4]};
                const Mask* const used[3] = {together, alone, other};
                out = add_fringe(source, ring, next, vertex, to_pixel, used, out);
            }
            const Mask* const used[3] = {together, alone, alone};
            if (any(torn)) {
                const FringeVertex beside = side(kRingNext[k]);
                const FringeVertex* const vertex[3] = {&corner, &pixel, &beside};
                out = add_fringe(source, ring, torn, vertex, to_side, used, out);
            }
            const Mask torn_before = pixel.valid & ~ring.joined[(k + 3) % 4];
            if (any(torn_before)) {
                const FringeVertex beside = side(kRingBefore[k]);
                const FringeVertex* const vertex[3] = {&corner, &beside, &pixel};
                out = add_fringe(source, ring, torn_before, vertex, from_side, used, out);
            }
        }
    }
    return out - triangles;
}

}  // namespace
}  // namespace sparse3d
