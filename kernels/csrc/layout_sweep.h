// What the stages of the plane sweep and of semi-global matching read and write.
#pragma once

#include <cstdint>

namespace sparse3d {

// Planes of one piece of the sweep, a cache line of scores: a multiple of the lanes of every instruction set.
constexpr int kSweepPlanes = 16;
// Pixels of one piece, at most: the samples of a window's rows, kSweepTileWidth + window - 1 vectors each, are to stay
// in the L1 cache, and the scores of a tile in L2.
constexpr int kSweepTileWidth = 54, kSweepTileHeight = 64;
constexpr int kSweepMostWindow = 11;
constexpr int kSweepMostHalf = kSweepMostWindow / 2;

struct SweepSource {
    const uint64_t* quads;  // (height, width) of 4 x 16 bits: pixel, right, below, below right; borders repeat
    int width, height;
    double turn[9];      // plane_transfer of sweep.py: the source sees (u, v) at depth * turn (u, v, 1) + shift
    float shift[3];
    float step, offset;  // grey = offset + step * (0 to 65535), zero in the middle of the image's range
};

struct SweepTask {
    int width, height, planes, window;
    const float* reference;  // (height, stride) zero in the middle of its range; column x at kSweepMostHalf + x
    int64_t stride;
    const float *mean, *inverse_deviation;  // (height, width) of the window; 1 / sqrt(variance + noise)
    const SweepSource* sources;
    int64_t source_count;
    const float* depths;  // whole pieces of kSweepPlanes
    float noise;          // variance
    int tile_width, tile_height, tiles_across;
    float* scores;  // (height, width, planes)
};

// One axis of semi-global matching: both paths along (dx, dy), forward and back. Its lines are independent.
struct AggregateTask {
    int width, height, planes;
    const float* costs;  // (height, width, planes)
    const float* guide;  // (height, width)
    float small, large, edge_weight;
    int64_t stride;  // floats of a pixel in scratch memory: its planes, and a vector or more behind them
    int dx, dy;
    bool add;      // to what is in `total`
    float* total;  // (height, width, planes)
};

}  // namespace sparse3d
