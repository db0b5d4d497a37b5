// Front-to-back compositing of the tiles of a region: reference.py, _composite_tile. All pixels of a part of a tile go
// through its list together.
#pragma once

#include "lanes_tile.h"

namespace sparse3d {
namespace {

struct alignas(64) TileImages {
    float r[kTilePixels], g[kTilePixels], b[kTilePixels];
    float alpha[kTilePixels], depth[kTilePixels], median[kTilePixels];
};

// Draws one part of a tile; returns where in the entries all its pixels were finished.
inline uint32_t blend_part(const Camera& camera, const Splat* splats, const uint32_t* entries, uint32_t begin, uint32_t end,
                           V x, V y, V T, int part, TileImages& images) {
    V r = V{}, g = V{}, b = V{}, coverage = V{}, depth = V{}, median = V{};
    uint32_t e = begin;
    while (e < end) {
        const uint32_t pause = end - e < 8 ? end : e + 8;  // whether all pixels are finished is asked now and then
        for (; e < pause; ++e) {
            const Splat& s = splats[entries[e]];
            const Step step(log2_alpha(s, x, y), T);
            // The last Gaussian met with more than half left is the one that takes it to a half or below.
            median = T > 0.5f ? all(s.depth) : median;
            T = step.after;
            r += step.weight * s.r;
            g += step.weight * s.g;
            b += step.weight * s.b;
            depth += step.weight * s.depth;
            coverage += step.weight;
        }
        if (!any(T > kTransmittanceMin)) break;
    }
    const V rest = 1.0f - coverage;
    const int at = part * kLanes;
    store(images.r + at, r + rest * camera.background[0]);
    store(images.g + at, g + rest * camera.background[1]);
    store(images.b + at, b + rest * camera.background[2]);
    store(images.alpha + at, coverage);
    store(images.depth + at, depth / max(coverage, all(1e-10f)));
    store(images.median + at, select(T <= 0.5f, median));
    return e;
}

// Fills the lists that count_entries has counted, and draws.
void blend_forward(const BlendTask& task, int64_t index, RegionScratch& scratch) {
    const Camera& camera = *task.camera;
    const Region region(task, index);
    RegionLists& lists = task.lists[index];
    fill_lists(region, scratch, lists);
    for (int number = 0; number < kTilesInRegion; ++number) {
        const Tile tile(region, number);
        if (tile.outside()) continue;
        const uint32_t begin = lists.begin[number], end = lists.begin[number + 1];
        const V x = tile.pixels_x();
        alignas(64) float transmittance[kTilePixels];
        tile.fill_transmittance(transmittance);
        TileImages images;
        uint32_t stop = begin;
        for (int part = 0; part < kParts; ++part) {
            const uint32_t here = blend_part(camera, scratch.splats, lists.entries, begin, end, x, tile.pixels_y(part),
                                             load(transmittance + part * kLanes), part, images);
            stop = here > stop ? here : stop;
        }
        lists.stop[number] = stop;
        tile.for_each_pixel(camera.width, [&](int p, int64_t pixel) {
            task.rgb[3 * pixel] = images.r[p];
            task.rgb[3 * pixel + 1] = images.g[p];
            task.rgb[3 * pixel + 2] = images.b[p];
            task.alpha[pixel] = images.alpha[p];
            task.depth[pixel] = images.depth[p];
            task.median[pixel] = images.median[p];
        });
    }
}

}  // namespace
}  // namespace sparse3d
