// What the stages of the forward warp read and write. Names and meanings are those of warp_surface.py and warp.py.
#pragma once

#include <cstdint>

namespace sparse3d {

constexpr float kWarpSnap = 1024.0f;
constexpr float kWarpFarthestPx = 1048576.0f;
constexpr float kWarpFarthest = 1e30f;  // world units
constexpr float kWarpOpened = 2.0f;          // pixels
constexpr int kWarpLayers = 2;
constexpr int kWarpLargest = 16384;  // pixels of a side of the target
// Quads whose bounds are kept together, and pixels of the target that are drawn together: what is drawn of one photo is
// to stay in the L2 cache. Columns are multiples of the lanes of every instruction set.
constexpr int kWarpQuadColumns = 64, kWarpQuadRows = 8;
constexpr int kWarpTileWidth = 64, kWarpTileHeight = 32;
constexpr int kWarpPad = 128;  // floats before and behind a plane
constexpr int kWarpTilePixels = kWarpTileWidth * kWarpTileHeight;

// An area of the target, pixels; empty when x0 > x1.
struct WarpBounds {
    float x0, y0, x1, y1;
};

// The corner above and left of a pixel; there are width + 1 by height + 1.
struct WarpCorner {
    int x, y;
};

constexpr int kFringeOfCorner = 8;  // triangles at most

// A triangle at the edge of a photo's surface, clockwise in the target.
struct FringeTriangle {
    int16_t x0, y0, x1, y1;  // pixels that it may cover, ends included
    float x[3], y[3], weight[3], inverse_depth[3], coverage[3];
    float color[3][3];
    float sampling;
};

// Of the corners of a block as large as one of quads.
struct FringeList {
    const FringeTriangle* triangles;
    int64_t count;
    WarpBounds bounds;
};

struct WarpSource {
    int width, height;
    const float* image;  // (3, height, width)
    const float* depth;  // (height, width)
    double turn[9];      // plane_transfer of sweep.py: the target sees (u, v) at depth * turn (u, v, 1) + shift
    float shift[3];
    float focal_x, focal_y;
    float near_plane;
    float steepest;  // tangent
    int target_width, target_height;
    // What follows is made from that. Planes are (height, width), with kWarpPad more to read before and after.
    float *x, *y, *weight, *inverse_depth;
    float* disparity;          // 0 where the depth is unknown or the vertex cannot be drawn
    float *slope_x, *slope_y;  // mean step of disparity to the joined neighbours
    int64_t full_stride;       // width in whole blocks of quads
    uint8_t* joined;           // (height, full_stride) 1: with the pixel to the right, 2: with the one below
    int8_t* full;              // (height - 1, full_stride) -1 where the quad right and below is joined all around
    WarpBounds* bounds;        // of blocks of kWarpQuadRows x kWarpQuadColumns quads, row by row
    const FringeList* fringes;
    int fringe_count;
};

// What a thread has drawn on a tile of each photo: planes of kWarpTilePixels, row by row.
enum WarpPlane { kWarpInverseDepth, kWarpCoverage, kWarpSampling, kWarpColor, kWarpPlanes = kWarpColor + 3 };
constexpr int64_t kWarpCanvasSize = int64_t{kWarpLayers} * kWarpPlanes * kWarpTilePixels;
// Floats of scratch memory for each photo: that, and as many layers of the widest vectors.
constexpr int64_t kWarpScratch = kWarpCanvasSize + kWarpLayers * 128;

struct WarpTask {
    const WarpSource* sources;
    int source_count;
    int width, height, tiles_across;
    float tolerance;
    float *color, *depth, *validity;  // (3, height, width), (height, width) twice
};

}  // namespace sparse3d
