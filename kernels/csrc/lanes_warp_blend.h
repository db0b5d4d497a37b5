// The forward warp, from the surfaces of all photos at a pixel to its colour, depth and validity: _blended of warp.py.
// The lanes of a vector are neighbouring pixels.
#pragma once

#include "lanes_warp_draw.h"

namespace sparse3d {
namespace {

static_assert(kWarpTileWidth % kLanes == 0 && kWarpQuadColumns % kLanes == 0, "rows are whole vectors");

// One surface at each lane's pixel.
struct WarpLayer {
    V depth, coverage, sampling, weight, color[3];
    int source;
};

// 0 at the same depth, 1 where a surface is well behind another. Ratios of nothing are 1.
inline V apart(V farther, V nearer, float tolerance) {
    const V one = all(1.0f), ratio = farther / (nearer > V{} ? nearer : one);
    return min(max((ratio - 1.0f) / tolerance - 1.0f, V{}), one);
}

// Blends the layers of `count` surfaces, each photo's in order of depth, and writes the first `pixels` lanes.
void blend(const WarpTask& task, WarpLayer* layers, int count, int64_t at, int pixels) {
    const int64_t plane = static_cast<int64_t>(task.width) * task.height;
    const V zero = {}, one = all(1.0f);
    V total = zero, samplings = zero, open = one, color[3] = {}, heaviest = zero, heaviest_depth = zero;
    for (int s = 0; s < count; ++s) {
        WarpLayer& layer = layers[s];
        V weight = layer.coverage * layer.sampling * layer.sampling;
        for (int j = 0; j < count; ++j) {
            if (layers[j].source != layer.source)
                weight *= one - layers[j].coverage * apart(layer.depth, layers[j].depth, task.tolerance);
            else if (j < s)
                weight *= one - layers[j].coverage;
        }
        layer.weight = weight;
        const Mask heavier = weight > heaviest;
        heaviest = heavier ? weight : heaviest;
        heaviest_depth = heavier ? layer.depth : heaviest_depth;
        for (int channel = 0; channel < 3; ++channel) color[channel] += weight * layer.color[channel];
        total += weight;
        samplings += weight * layer.sampling;
        open *= one - layer.coverage;
    }
    V depths = zero, near = zero;
    for (int s = 0; s < count; ++s) {
        const V depth = layers[s].depth;
        const V off = apart(max(depth, heaviest_depth), min(depth, heaviest_depth), task.tolerance);
        const V weight = layers[s].weight * (one - off);
        depths += weight * depth;
        near += weight;
    }
    const Mask some = total > zero;
    const V safe = some ? total : one;
    for (int channel = 0; channel < 3; ++channel)
        store_some(task.color + channel * plane + at, color[channel] / safe, pixels);
    store_some(task.depth + at, depths / (some ? near : one), pixels);
    store_some(task.validity + at, min((one - open) * samplings / safe, one), pixels);
}

// Tiles [begin, end) of the target. `scratch`: kWarpCanvasSize for each photo.
void warp_tiles(const WarpTask& task, int64_t begin, int64_t end, float* scratch) {
    const V zero = {};
    static_assert(sizeof(WarpLayer) <= 128 * sizeof(float), "kWarpScratch has room for them");
    WarpLayer* const layers = reinterpret_cast<WarpLayer*>(scratch + task.source_count * kWarpCanvasSize);
    for (int64_t tile = begin; tile < end; ++tile) {
        WarpCanvas canvas = {};
        canvas.x0 = static_cast<int>(tile % task.tiles_across) * kWarpTileWidth;
        canvas.y0 = static_cast<int>(tile / task.tiles_across) * kWarpTileHeight;
        canvas.x1 = canvas.x0 + kWarpTileWidth < task.width ? canvas.x0 + kWarpTileWidth : task.width;
        canvas.y1 = canvas.y0 + kWarpTileHeight < task.height ? canvas.y0 + kWarpTileHeight : task.height;
        for (int s = 0; s < task.source_count; ++s) {
            canvas.planes = scratch + s * kWarpCanvasSize;
            for (int k = 0; k < kWarpLayers; ++k)
                __builtin_memset(canvas.planes + k * kWarpPlanes * kWarpTilePixels, 0, sizeof(float) * kWarpTilePixels);
            draw_surface(canvas, task.sources[s]);
        }
        for (int y = canvas.y0; y < canvas.y1; ++y)
            for (int x = canvas.x0; x < canvas.x1; x += kLanes) {
                int count = 0;
                for (int k = 0; k < task.source_count * kWarpLayers; ++k) {
                    const float* const planes = scratch + k * kWarpPlanes * kWarpTilePixels +
                                                (y - canvas.y0) * kWarpTileWidth + x - canvas.x0;
                    const V inverse = load(planes);
                    const Mask seen = inverse > zero;
                    if (!any(seen)) continue;
                    const auto plane = [&](int which) { return select(seen, load(planes + which * kWarpTilePixels)); };
                    WarpLayer& layer = layers[count++];
                    layer.depth = select(seen, 1.0f / inverse);
                    layer.coverage = plane(kWarpCoverage);
                    layer.sampling = plane(kWarpSampling);
                    for (int channel = 0; channel < 3; ++channel) layer.color[channel] = plane(kWarpColor + channel);
                    layer.source = k / kWarpLayers;
                }
                blend(task, layers, count, static_cast<int64_t>(y) * task.width + x, canvas.x1 - x);
            }
    }
}

}  // namespace
}  // namespace sparse3d
