// Data that the stages of the rasterizer and of the loss hand to one another. Plain structs and constants only: this
// header is included by the files that are compiled for one instruction set, which must not share inline code (see isa.h).
#pragma once

#include <cstdint>

namespace sparse3d {

// kernels/reference.py: ALPHA_MIN, ALPHA_MAX, TRANSMITTANCE_MIN
constexpr float kAlphaMin = 1.0f / 255.0f;
constexpr float kAlphaMax = 0.999f;
constexpr float kTransmittanceMin = 1e-4f;
constexpr float kLog2AlphaMin = -7.99435344f;  // log2(1/255)
constexpr float kLog2E = 1.44269504f;
constexpr float kLn2 = 0.693147181f;

constexpr int kTileShift = 2;
constexpr int kTile = 1 << kTileShift;  // pixels on a side of what has a list of its own
constexpr int kTilePixels = kTile * kTile;
constexpr int kRegionShift = 5;
constexpr int kRegion = 1 << kRegionShift;  // pixels on a side of what one worker blends at a time, its splats in the L1 or L2 cache
constexpr int kRegionTiles = kRegion / kTile;  // on a side
constexpr int kTilesInRegion = kRegionTiles * kRegionTiles;
constexpr int kAhead = 8;        // entries whose alpha is computed side by side; tile lists are filled up to whole ones
constexpr int kBatch = 16;       // entries of a tile whose gradient is summed together
constexpr int kFetchAhead = 16;  // cache lines that are wanted in no order of their addresses are asked for so much earlier
constexpr int kMostLanes = 16;   // of any instruction set; arrays that are read by whole vectors are padded by as many
constexpr int kBlock = 256;      // Gaussians in one unit of work, and in one partial sum of the camera's gradient
constexpr int kCameraSums = 15;  // gradient of rotation (9), translation (3) and, through SH directions, centre (3)
constexpr int kMaxSh = 16;       // coefficients of degree 3
constexpr float kFar2d = 1e9f;   // pixels; a Gaussian centred or reaching further is not drawn, to stay clear of overflow

// One view of reference.rasterize.
struct Camera {
    float R[9], t[3];  // world to camera, row major
    float centre[3];   // -R^T t
    float fx, fy, cx, cy;
    float min_x, max_x, min_y, max_y;  // range of x/z and y/z in the Jacobian
    float near_plane, far_plane, eps2d;
    int width, height, regions_x, regions_y;
    bool antialiased;
    float background[3];
};

// The arguments of reference.rasterize that belong to the Gaussians.
struct Gaussians {
    const float *means, *quats, *scales, *opacities, *colors;
    int64_t count;
    int color_stride;  // floats of `colors` per Gaussian
    int sh_degree;     // -1: `colors` are colours
    bool before_activation;  // `scales` are natural logarithms and `opacities` logits, as the optimizer holds them
    const uint8_t* kept;     // (N), 0: left out of this training step; null: none is
    float kept_factor;       // of the opacities of the others, 1 where `kept` is null
};

// Where their gradients go.
struct GaussianGradients {
    float *means, *quats, *scales, *opacities, *colors;
};

// A Gaussian as one camera sees it, one cache line. With (a, b; b, c) the 2D covariance after eps2d and (dx, dy) from the
// centre, reference.py's sigma is completed to squares, which cannot turn negative in float32:
//     2 sigma = dx^2 / a + (dy - dx b/a)^2 a / det
struct alignas(64) Splat {
    float x, y;                   // centre, pixels; within a region relative to its middle
    float narrow, across, cross;  // log2(alpha) = log2_opacity - (narrow dx)^2 - (across dy - cross dx)^2
    float log2_opacity;           // with the antialiasing compensation in it
    float r, g, b;
    float depth;
    // the ellipse alpha = kAlphaMin, a little widened, for the tile lists
    float reach_y;    // half height
    float tip_y;      // dy of its rightmost point
    float shear;      // b / c
    float thickness;  // sqrt(det) / c: the ellipse is dx = shear dy +- thickness sqrt(reach_y^2 - dy^2)
    // within a region, so that log2(alpha) takes one operation less for each axis: narrow dx = narrow pixel_x + q0 and
    // across dy - cross dx = across pixel_y - cross pixel_x + t0
    float q0, t0;
};
enum SplatField { kX, kY, kNarrow, kAcross, kCross, kLog2Opacity, kRed, kGreen, kBlue, kDepthField, kReachY, kTipY, kShear,
                  kThickness, kSplatFields, kSplatSize = 16 };

// Regions of the box around each Gaussian's ellipse, first | last << 16, both included; kNowhere where nothing is drawn.
struct RegionBoxes {
    uint32_t *x, *y;
};
constexpr uint32_t kNowhere = 1;  // first 1, last 0

// Gradient sums of one Gaussian over the pixels of a region, with v = alpha dL/dalpha and t = across dy - cross dx as in
// Splat: sums of v dx dy would lose most of their digits to cancellation in long thin Gaussians.
enum SlotField { kV, kVX, kVXX, kVT, kVXT, kVTT, kR, kG, kB, kDepth, kSlotFields, kSlotSize = 16 };
struct alignas(64) Slot {
    float sums[kSlotSize];
};

// The slots of all regions and where those of each Gaussian are.
struct SlotTable {
    int64_t count;  // N
    const uint32_t *place_begin, *places;
    const Slot* slots;
};

// The lists of the tiles of one region: places among the region's Gaussians, nearest first, and then, up to a multiple of
// kAhead, the place after the last, where a splat is that draws nothing.
struct RegionLists {
    uint32_t* entries;
    uint32_t begin[kTilesInRegion + 1];  // into entries
    uint32_t stop[kTilesInRegion];       // end of the entries that the tile needed; written forward, read backward
};

// Memory of one worker for the region it is at, for as many Gaussians as that has and a whole vector more.
struct RegionScratch {
    uint32_t *keys, *other_keys, *places, *other_places;
    uint32_t *tiles[2], *sorted_tiles[2];  // bit 8 row + column: the ellipse meets that tile; rows 0-3 and 4-7
    // For each row of tiles, places and columns of the Gaussians that meet it, nearest first
    uint32_t *row_places[kRegionTiles], *row_columns[kRegionTiles];
    int64_t row_count[kRegionTiles];
};
constexpr int kScratchArrays = 8 + 2 * kRegionTiles;

// What the blend stages read and write; image pointers are at the view's first pixel.
struct BlendTask {
    const Camera* camera;
    const Splat* splats;           // (N); needed forward
    Splat* region_splats;          // those of each region side by side, with room for a vector more; written forward
    const uint32_t* members;       // Gaussians of each region, ascending
    const uint32_t* region_begin;  // (regions + 1) into members
    RegionLists* lists;            // (regions)
    float *rgb, *alpha, *depth, *median;  // the last two null where they are not wanted
    // backward only; null where the loss does not depend on that output
    const float *grad_rgb, *grad_alpha, *grad_depth;
    Slot* slots;              // as members
    float* background_sums;   // (regions, 3)
};

// Tiles of the loss: the windowed rows of 48 columns stay in an L1 cache of 48 KiB, and many rows repay the 10 above
// and below that a tile computes for itself alone.
constexpr int kLossTileWidth = 48, kLossTileHeight = 128;
constexpr int kPlanePad = 32;  // floats before and after a row of a plane, which windows and whole vectors reach into

// What the stages of the photometric loss read and write. Images are (H, W, 3); planes are (H, stride) and hold 3 W
// floats from column kPlanePad on.
struct LossTask {
    int width, height;
    int64_t stride;
    const float* target;
    float *target_mean, *target_variance;  // planes, written by loss_target; null: L1 alone
    const float* image;
    const uint8_t* mask;         // (H, W), 0 where the image is given the target's value; null: nowhere
    double* tile_sums;           // (tiles, 2) of |image - target| and of 1 - SSIM
    float l1_scale, ssim_scale;  // of the gradients of the two sums
    float* gradient;             // null: not wanted
};

}  // namespace sparse3d
