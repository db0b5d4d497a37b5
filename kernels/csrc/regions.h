// Which Gaussians each region of the image needs.
#pragma once

#include "buffer.h"
#include "layout.h"

namespace sparse3d {

struct Members {
    Buffer<uint32_t> region_begin;  // (regions + 1) into members
    Buffer<uint32_t> members;       // Gaussians of each region, ascending
    Buffer<uint32_t> place_begin;   // (N + 1) into places
    Buffer<uint32_t> places;        // where each Gaussian stands in members
};

// Of the Gaussians whose first region is one: how many meet it, the next one, and the two below.
struct Corners {
    uint32_t here, right, below, below_right;
};

// Memory that is used again for the next view.
struct RegionCounts {
    Buffer<uint32_t> boxes_x, boxes_y;  // RegionBoxes
    Buffer<uint32_t> counts;
    Buffer<Corners> corners;
    Buffer<uint64_t> totals;
};

// Lists the Gaussians of each region that their box reaches. The result does not depend on `threads`.
// Throws std::length_error if there are 2^31 pairs or more.
void find_members(const Camera& camera, int64_t count, int threads, RegionCounts& counts, Members& members);

}  // namespace sparse3d
