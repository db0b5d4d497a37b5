// What the stages of the plane sweep and of semi-global matching read and write.
#pragma once

#include <cstdint>

namespace sparse3d {

// Planes of one piece of the sweep, a cache line of scores: a multiple of the lanes of every instruction set.
constexpr int kSweepPlanes = 16;
// Pixels of one piece, at most: the samples of a window's rows, kSweepTileWidth + window - 1 vectors each, are to stay
// in the L1 cache, and the scores of a tile in L2.
constexpr int kSweepTileWidth = 54, kSweepTileHeight = 64;
constexpr float kSweepNearest = 1e-9f;  // NEAREST of sweep.py
constexpr int kZnccMostWindow = 11;
constexpr int kZnccMostHalf = kZnccMostWindow / 2;
constexpr int kCensusHalfWidth = 4, kCensusHalfHeight = 3;  // HALF_WIDTH, HALF_HEIGHT of census.py
constexpr int kCensusBits = 31;                             // of each of the two words of a census code
// 1, 2, 4, ...: read from memory as they are added to a code, since a compiler that knows them keeps loading them into
// registers, of which there are too few.
extern const uint32_t kCensusBit[kCensusBits];

struct SourceCamera {
    int width, height;
    double turn[9];  // plane_transfer of sweep.py: the source sees (u, v) at depth * turn (u, v, 1) + shift
    float shift[3];
};

struct SweepSource {
    const uint64_t* quads;  // (height, width) of 4 x 16 bits: pixel, right, below, below right; borders repeat
    SourceCamera camera;
    float step, offset;  // grey = offset + step * (0 to 65535), zero in the middle of the image's range
};

// A sweep of grey images, by any score.
struct SweepTask {
    int width, height, planes;
    const SweepSource* sources;
    int64_t source_count;
    const float* depths;  // whole pieces of kSweepPlanes
    const float* relief;  // (height, width) what depths are multiplied by
    int tile_width, tile_height, tiles_across;
    float* scores;  // (height, width, planes)
};

struct ZnccTask : SweepTask {
    int window;
    float noise;             // variance
    const float* reference;  // (height, stride) zero in the middle of its range; column x at kZnccMostHalf + x
    int64_t stride;
    const float *mean, *inverse_deviation;  // (height, width) of the window; 1 / sqrt(variance + noise)
};

// Bits of the neighbours before a pixel and of those behind it, row by row.
struct CensusPixel {
    uint32_t codes[2];  // set where darker
    uint32_t exist[2];  // set within the image
    float best, step;   // the score when all are equal, and what each one that differs takes from it
};

struct CensusTask : SweepTask {
    const CensusPixel* pixels;  // (height, width)
};

struct FeatureSource {
    const float* features;  // (height + 2, width + 2, channels), zeros around
    SourceCamera camera;
};

struct CorrelateTask {
    int width, height, planes;
    int64_t channels;        // a multiple of kSweepPlanes, zeros behind the given ones
    const float* reference;  // (height, width, channels)
    const FeatureSource* sources;
    int64_t source_count;
    const float* depths;  // whole pieces of kSweepPlanes
    float scale;
    int64_t scratch_stride;  // of each of the kCorrelateRows rows of scratch memory: planes, and a vector or more behind them
    float* scores;           // (height, width, planes)
};
constexpr int kCorrelateRows = 6;

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
