// The forward warp, from quads and fringe triangles to the nearest kWarpLayers surfaces at each pixel of a tile:
// _nearest of warp.py. A pixel's centre on an edge is taken for one a trifle to its right, and a trifle of that higher.
#pragma once

#include "lanes_warp_fringe.h"

namespace sparse3d {
namespace {

// A surface at a pixel.
struct WarpFragment {
    float values[kWarpPlanes];
};

// A tile of the target and what has been drawn on it of one photo.
struct WarpCanvas {
    int x0, y0, x1, y1;  // pixels, the ends not included
    float* planes;       // of the nearest surface, then those of the next; inverse depth is 0 where there is none

    bool meets(const WarpBounds& bounds) const {
        return bounds.x0 < x1 && bounds.y0 < y1 && bounds.x1 > x0 && bounds.y1 > y0;
    }

    void keep(int x, int y, const WarpFragment& fragment) const {
        float* const nearest = planes + (y - y0) * kWarpTileWidth + x - x0;
        float* const next = nearest + kWarpPlanes * kWarpTilePixels;
        const float inverse_depth = fragment.values[kWarpInverseDepth];
        if (inverse_depth > *nearest) {
            if (*nearest > 0.0f)
                for (int k = 0; k < kWarpPlanes; ++k) next[k * kWarpTilePixels] = nearest[k * kWarpTilePixels];
            for (int k = 0; k < kWarpPlanes; ++k) nearest[k * kWarpTilePixels] = fragment.values[k];
        } else if (inverse_depth > *next) {
            for (int k = 0; k < kWarpPlanes; ++k) next[k * kWarpTilePixels] = fragment.values[k];
        }
    }
};
static_assert(kWarpLayers == 2 && kWarpInverseDepth == 0, "keep knows them");

// Calls hit(x, y, 1 / depth, share of the second vertex, of the third) where a triangle covers the centre of one of the
// pixels x0 to x1, y0 to y1, ends included. Exact for any size: products of whole steps fit a double.
template <class Hit>
void draw_triangle(int x0, int y0, int x1, int y1, const float x[3], const float y[3], const float weight[3],
                   const float inverse_depth[3], Hit hit) {
    double dx[3], dy[3];
    bool wins_tie[3];
    for (int k = 0; k < 3; ++k) {
        const int next = k == 2 ? 0 : k + 1;
        dx[k] = static_cast<double>(x[next]) - x[k];
        dy[k] = static_cast<double>(y[next]) - y[k];
        wins_tie[k] = dy[k] < 0.0 || (dy[k] == 0.0 && dx[k] < 0.0);
    }
    if (!(dx[0] * dy[1] - dy[0] * dx[1] > 0.0)) return;  // seen from behind
    for (int py = y0; py <= y1; ++py)
        for (int px = x0; px <= x1; ++px) {
            double area[3];  // of an edge and the pixel's centre, twice
            bool inside = true;
            for (int k = 0; k < 3; ++k) {
                area[k] = dx[k] * (py + 0.5 - y[k]) - dy[k] * (px + 0.5 - x[k]);
                inside = inside && (area[k] > 0.0 || (area[k] == 0.0 && wins_tie[k]));
            }
            if (!inside) continue;
            const float inverse_total = static_cast<float>(1.0 / (area[0] + area[1] + area[2]));
            const float a = static_cast<float>(area[1]) * inverse_total;
            const float b = static_cast<float>(area[2]) * inverse_total;
            const float c = static_cast<float>(area[0]) * inverse_total;
            const float inverse = a * inverse_depth[0] + b * inverse_depth[1] + c * inverse_depth[2];
            const float total = a * weight[0] + b * weight[1] + c * weight[2];
            hit(px, py, inverse, b * weight[1] / total, c * weight[2] / total);
        }
}

// A quad of any size, as its two triangles.
void draw_quad(const WarpCanvas& canvas, const WarpSource& source, int64_t quad, float sampling, int x0, int y0, int x1,
               int y1) {
    const int64_t a = quad, b = quad + 1, c = quad + source.width, d = c + 1;
    const int64_t pixels = static_cast<int64_t>(source.width) * source.height;
    const auto keep = [&](int px, int py, float inverse, float u, float v) {
        WarpFragment fragment = {{inverse, 1.0f, sampling}};
        for (int channel = 0; channel < 3; ++channel) {
            const float* const image = source.image + channel * pixels;
            fragment.values[kWarpColor + channel] =
                (1.0f - v) * ((1.0f - u) * image[a] + u * image[b]) + v * ((1.0f - u) * image[c] + u * image[d]);
        }
        canvas.keep(px, py, fragment);
    };
    const auto draw = [&](int64_t second, int64_t third, auto hit) {
        const int64_t at[3] = {a, second, third};
        float x[3], y[3], weight[3], inverse_depth[3];
        for (int k = 0; k < 3; ++k) {
            x[k] = source.x[at[k]];
            y[k] = source.y[at[k]];
            weight[k] = source.weight[at[k]];
            inverse_depth[k] = source.inverse_depth[at[k]];
        }
        draw_triangle(x0, y0, x1, y1, x, y, weight, inverse_depth, hit);
    };
    draw(b, d, [&](int px, int py, float inverse, float of_b, float of_d) {
        keep(px, py, inverse, of_b + of_d, of_d);
    });
    draw(d, c, [&](int px, int py, float inverse, float of_d, float of_c) {
        keep(px, py, inverse, of_d, of_d + of_c);
    });
}

// An edge of each lane's quad. Quads that share one hold it in the same direction.
struct WarpEdge {
    V x, y, dx, dy;
    Mask wins_tie;

    WarpEdge(V from_x, V from_y, V to_x, V to_y) : x(from_x), y(from_y), dx(to_x - from_x), dy(to_y - from_y) {
        wins_tie = (dy < V{}) | ((dy == V{}) & (dx < V{}));
    }
    // Twice the area of the edge and a point: positive to its right, y being down.
    V area(V px, V py) const { return dx * (py - y) - dy * (px - x); }
    Mask right_of(V area) const { return (area > V{}) | ((area == V{}) & wins_tie); }
    Mask left_of(V area) const { return (area < V{}) | ((area == V{}) & ~wins_tie); }
};

// kLanes quads of a row, the first at pixel `at`. Those that reach over fewer than kSmall pixels are drawn together,
// for products of their sides are exact in a float; others one by one.
void draw_quads(const WarpCanvas& canvas, const WarpSource& source, Mask drawn, int64_t at) {
    constexpr float kSmall = 4.0f;
    const int64_t below = at + source.width;
    const V ax = load(source.x + at), bx = load(source.x + at + 1);
    const V cx = load(source.x + below), dx = load(source.x + below + 1);
    const V ay = load(source.y + at), by = load(source.y + at + 1);
    const V cy = load(source.y + below), dy = load(source.y + below + 1);
    const V low_x = min(min(ax, bx), min(cx, dx)), high_x = max(max(ax, bx), max(cx, dx));
    const V low_y = min(min(ay, by), min(cy, dy)), high_y = max(max(ay, by), max(cy, dy));
    const V first_x = max(first_centre(low_x), all(static_cast<float>(canvas.x0)));
    const V first_y = max(first_centre(low_y), all(static_cast<float>(canvas.y0)));
    const V last_x = min(last_centre(high_x), all(canvas.x1 - 1.0f));
    const V last_y = min(last_centre(high_y), all(canvas.y1 - 1.0f));
    const Mask reached = drawn & (first_x <= last_x) & (first_y <= last_y);
    if (!any(reached)) return;
    const V sampling =
        sampling_of(0.5f * (bx - ax + dx - cx), 0.5f * (by - ay + dy - cy), 0.5f * (cx - ax + dx - bx),
                    0.5f * (cy - ay + dy - by));
    const Mask small = (high_x - low_x < kSmall) & (high_y - low_y < kSmall);
    const Mask together = reached & small, alone = reached & ~small;
    if (any(alone))
        for (int l = 0; l < kLanes; ++l)
            if (alone[l])
                draw_quad(canvas, source, at + l, sampling[l], static_cast<int>(first_x[l]),
                          static_cast<int>(first_y[l]), static_cast<int>(last_x[l]), static_cast<int>(last_y[l]));
    if (!any(together)) return;

    const V aw = load(source.weight + at), bw = load(source.weight + at + 1);
    const V cw = load(source.weight + below), dw = load(source.weight + below + 1);
    const V ai = load(source.inverse_depth + at), bi = load(source.inverse_depth + at + 1);
    const V ci = load(source.inverse_depth + below), di = load(source.inverse_depth + below + 1);
    const WarpEdge ab(ax, ay, bx, by), cd(cx, cy, dx, dy), ac(ax, ay, cx, cy), bd(bx, by, dx, dy);
    const WarpEdge ad(ax, ay, dx, dy);
    const Mask upper_faces = together & (ab.dx * ad.dy - ab.dy * ad.dx > V{});
    const Mask lower_faces = together & (ad.dx * ac.dy - ad.dy * ac.dx > V{});
    const int64_t pixels = static_cast<int64_t>(source.width) * source.height;
    const auto corners = [&](int channel, int right, int lower) {  // the photo ends behind the last of them
        const int64_t first = (lower ? below : at) + right, left = pixels - first;
        const float* const p = source.image + channel * pixels + first;
        return left >= kLanes ? load(p) : load_some(p, static_cast<int>(left), 0.0f);
    };
    V y = first_y;
    for (Mask in_y = together; any(in_y); y += 1.0f, in_y = together & (y <= last_y)) {
        V x = first_x;
        for (Mask in = in_y; any(in); x += 1.0f, in = in_y & (x <= last_x)) {
            const V px = x + 0.5f, py = y + 0.5f;
            const V e_ab = ab.area(px, py), e_cd = cd.area(px, py), e_ac = ac.area(px, py), e_bd = bd.area(px, py);
            const V e_ad = ad.area(px, py);
            const Mask upper = in & upper_faces & ab.right_of(e_ab) & bd.right_of(e_bd) & ad.left_of(e_ad);
            const Mask lower = in & lower_faces & ad.right_of(e_ad) & cd.left_of(e_cd) & ac.left_of(e_ac);
            const Mask hit = upper | lower;
            if (!any(hit)) continue;
            const V of_a = upper ? e_bd : -e_cd, of_d = upper ? e_ab : -e_ac, of_other = upper ? -e_ad : e_ad;
            const V inverse =
                (of_a * ai + of_d * di + of_other * (upper ? bi : ci)) / (hit ? of_a + of_d + of_other : all(1.0f));
            const V weighted_d = of_d * dw, weighted_other = of_other * (upper ? bw : cw);
            const V total = of_a * aw + weighted_d + weighted_other;
            const V share_d = weighted_d / total, share_both = (weighted_d + weighted_other) / total;
            const V u = upper ? share_both : share_d, v = upper ? share_d : share_both;
            V values[kWarpPlanes] = {inverse, all(1.0f), sampling};
            for (int channel = 0; channel < 3; ++channel) {
                const V above = corners(channel, 0, 0) + u * (corners(channel, 1, 0) - corners(channel, 0, 0));
                const V under = corners(channel, 0, 1) + u * (corners(channel, 1, 1) - corners(channel, 0, 1));
                values[kWarpColor + channel] = above + v * (under - above);
            }
            for (unsigned left = lane_bits(hit); left != 0; left &= left - 1) {
                const int l = __builtin_ctz(left);
                WarpFragment fragment;
                for (int k = 0; k < kWarpPlanes; ++k) fragment.values[k] = values[k][l];
                canvas.keep(static_cast<int>(x[l]), static_cast<int>(y[l]), fragment);
            }
        }
    }
}

// A photo's surface on an empty canvas.
void draw_surface(const WarpCanvas& canvas, const WarpSource& source) {
    const int quad_rows = source.height - 1, blocks_across = static_cast<int>(source.full_stride / kWarpQuadColumns);
    const int block_rows = (quad_rows + kWarpQuadRows - 1) / kWarpQuadRows;
    for (int block = 0; block < block_rows * blocks_across; ++block) {
        if (!canvas.meets(source.bounds[block])) continue;
        const int top = block / blocks_across * kWarpQuadRows, left = block % blocks_across * kWarpQuadColumns;
        for (int y = top; y < top + kWarpQuadRows && y < quad_rows; ++y)
            for (int x = left; x < left + kWarpQuadColumns && x < source.width; x += kLanes) {
                Bytes bytes;
                __builtin_memcpy(&bytes, source.full + y * source.full_stride + x, sizeof bytes);
                const Mask drawn = __builtin_convertvector(bytes, Mask);
                if (any(drawn)) draw_quads(canvas, source, drawn, static_cast<int64_t>(y) * source.width + x);
            }
    }
    for (int list = 0; list < source.fringe_count; ++list) {
        const FringeList& fringe = source.fringes[list];
        if (!canvas.meets(fringe.bounds)) continue;
        for (int64_t k = 0; k < fringe.count; ++k) {
            const FringeTriangle& t = fringe.triangles[k];
            const int x0 = t.x0 > canvas.x0 ? t.x0 : canvas.x0, x1 = t.x1 < canvas.x1 ? t.x1 : canvas.x1 - 1;
            const int y0 = t.y0 > canvas.y0 ? t.y0 : canvas.y0, y1 = t.y1 < canvas.y1 ? t.y1 : canvas.y1 - 1;
            if (x0 > x1 || y0 > y1) continue;
            draw_triangle(x0, y0, x1, y1, t.x, t.y, t.weight, t.inverse_depth,
                          [&](int x, int y, float inverse, float second, float third) {
                              const auto mean = [&](float a, float b, float c) {
                                  return (1.0f - second - third) * a + second * b + third * c;
                              };
                              const float coverage = mean(t.coverage[0], t.coverage[1], t.coverage[2]);
                              WarpFragment fragment = {{inverse, min(max(coverage, 0.0f), 1.0f), t.sampling}};
                              for (int channel = 0; channel < 3; ++channel)
                                  fragment.values[kWarpColor + channel] =
                                      mean(t.color[0][channel], t.color[1][channel], t.color[2][channel]);
                              canvas.keep(x, y, fragment);
                          });
        }
    }
}

}  // namespace
}  // namespace sparse3d
