// Front-to-back compositing of the tiles of a region: reference.py, _composite_tile. All pixels of a part of a tile go
// through its list together.
#pragma once

#include "lanes_tile.h"

namespace sparse3d {
namespace {

struct alignas(64) TileImages {
    float rgb[3 * kTilePixels], alpha[kTilePixels], depth[kTilePixels], median[kTilePixels];
};

// The depth of the one of kAhead Gaussians that takes the transmittance T from above a half to a half or below, if one does.
inline void find_median(const Splat* splats, const uint32_t* entries, const V alpha[kAhead], V T, V& median) {
    for (int k = 0; k < kAhead; ++k) {
        const V after = less_product(T, alpha[k], T);
        median = (T > 0.5f) & (after <= 0.5f) ? all(splats[entries[k]].depth) : median;
        T = after;
    }
}

// Takes the weight from the Gaussian that would take the transmittance T to its minimum, and from all behind it. T itself goes
// on, and keeps finished pixels finished.
inline void leave_out_finished(const V alpha[kAhead], V T, V weight[kAhead]) {
    for (int k = 0; k < kAhead; ++k) {
        T = less_product(T, alpha[k], T);
        weight[k] = select(T > kTransmittanceMin, weight[k]);
    }
}

// Draws one part of a tile; returns where in the entries all its pixels were finished.
template <bool kWithDepth>
inline uint32_t blend_part(const Camera& camera, const Splat* splats, const uint32_t* entries, uint32_t begin, uint32_t end,
                           V x, V y, V T, int part, TileImages& images) {
    V r = V{}, g = V{}, b = V{}, coverage = V{}, depth = V{}, median = V{};
    uint32_t e = begin;
    while (e < end) {
        V alpha[kAhead], weight[kAhead];
        alphas(splats, entries + e, x, y, alpha);
        const V before = T;
#pragma GCC unroll 8
        for (int k = 0; k < kAhead; ++k) {
            weight[k] = alpha[k] * T;
            T = less_product(T, alpha[k], T);
        }
        // Both happen once in a pixel, so that it pays to ask for it only now and then.
        if (kWithDepth && any((before > 0.5f) & (T <= 0.5f))) find_median(splats, entries + e, alpha, before, median);
        if (any(T <= kTransmittanceMin)) leave_out_finished(alpha, before, weight);
#pragma GCC unroll 8
        for (int k = 0; k < kAhead; ++k) {
            const Splat& s = splats[entries[e + k]];
            r += weight[k] * s.r;
            g += weight[k] * s.g;
            b += weight[k] * s.b;
            if (kWithDepth) depth += weight[k] * s.depth;
            coverage += weight[k];
        }
        e += kAhead;
        if (!any(T > kTransmittanceMin)) break;
    }
    const V rest = 1.0f - coverage;
    const int at = part * kLanes;
    const V rgb[3] = {r + rest * camera.background[0], g + rest * camera.background[1], b + rest * camera.background[2]};
    store_columns3(rgb, images.rgb + 3 * at);
    store(images.alpha + at, coverage);
    if (kWithDepth) {
        store(images.depth + at, depth / max(coverage, all(1e-10f)));
        store(images.median + at, median);
    }
    return e;
}

template <bool kWithDepth>
void blend_tiles(const BlendTask& task, int64_t index) {
    const Camera& camera = *task.camera;
    const Region region(task, index);
    RegionLists& lists = task.lists[index];
    for (int number = 0; number < kTilesInRegion; ++number) {
        const Tile tile(region, number);
        const uint32_t begin = lists.begin[number], end = lists.begin[number + 1];
        lists.stop[number] = begin;
        if (tile.outside()) continue;
        const V x = tile.pixels_x();
        alignas(64) float transmittance[kTilePixels];
        tile.fill_transmittance(transmittance);
        TileImages images;
        uint32_t stop = begin;
        for (int part = 0; part < kParts; ++part) {
            const uint32_t here = blend_part<kWithDepth>(camera, region.splats, lists.entries, begin, end, x, tile.pixels_y(part),
                                                         load(transmittance + part * kLanes), part, images);
            stop = here > stop ? here : stop;
        }
        lists.stop[number] = stop;
        tile.store<3>(camera, images.rgb, task.rgb);
        tile.store<1>(camera, images.alpha, task.alpha);
        if (!kWithDepth) continue;
        tile.store<1>(camera, images.depth, task.depth);
        tile.store<1>(camera, images.median, task.median);
    }
}

// Draws the lists that list_tiles has filled.
void blend_forward(const BlendTask& task, int64_t index) {
    task.depth != nullptr ? blend_tiles<true>(task, index) : blend_tiles<false>(task, index);
}

}  // namespace
}  // namespace sparse3d
