// Which Gaussians each tile needs, nearest first.
#pragma once

#include "buffer.h"
#include "layout.h"

namespace sparse3d {

struct TileLists {
    Buffer<uint32_t> tile_begin;  // (tiles + 1) into entries
    Buffer<uint32_t> slot_begin;  // (N + 1): slots of each Gaussian, one for each tile that lists it
    Buffer<Entry> entries;        // padded by kPrefetch
    int64_t entry_count = 0;
};

// Memory that is used again for the next view.
struct TileScratch {
    Buffer<uint32_t> keys, other_keys, order, other_order, row_begin, tile_counts;
    Buffer<uint32_t> spans;
};

// Lists the tiles that each Gaussian's ellipse reaches with alpha >= kAlphaMin; ties in depth go to the lower index.
// Throws std::length_error if there are more than 2^32 entries.
void make_tile_lists(const Camera& camera, int64_t count, const Splat* splats, const TileBox* boxes, int threads,
                     TileScratch& scratch, TileLists& lists);

}  // namespace sparse3d
