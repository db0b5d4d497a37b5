// The tile lists of one region, made where they are used.
#pragma once

#include "lanes_rows.h"
#include "layout.h"

namespace sparse3d {
namespace {

// What of the image is in a region.
struct Region {
    int left, top, width, height;  // pixels
    float middle_x, middle_y;      // coordinates inside are relative to it, which keeps rounding small
    const uint32_t* members;
    Splat* splats;
    int64_t count;

    Region(const BlendTask& task, int64_t index) {
        const Camera& camera = *task.camera;
        left = static_cast<int>(index % camera.regions_x) * kRegion;
        top = static_cast<int>(index / camera.regions_x) * kRegion;
        width = camera.width - left < kRegion ? camera.width - left : kRegion;
        height = camera.height - top < kRegion ? camera.height - top : kRegion;
        middle_x = left + 0.5f * kRegion;
        middle_y = top + 0.5f * kRegion;
        members = task.members + task.region_begin[index];
        splats = task.region_splats + task.region_begin[index] + index * kMostLanes;
        count = task.region_begin[index + 1] - task.region_begin[index];
    }
};

// The region's splats side by side, relative to its middle; then, to the end of a vector at least, ones that draw nothing.
inline void gather_splats(const BlendTask& task, const Region& region) {
    Splat* const splats = region.splats;
    Splat middle = {};
    middle.x = region.middle_x;
    middle.y = region.middle_y;
    for (int64_t i = 0; i < region.count; ++i) {
        __builtin_prefetch(&task.splats[region.members[i + kFetchAhead < region.count ? i + kFetchAhead : i]]);
        const Splat& s = task.splats[region.members[i]];
        for (int k = 0; k < kSplatSize; k += kLanes) store(&splats[i].x + k, load(&s.x + k) - load(&middle.x + k));
        const float x = s.x - middle.x, y = s.y - middle.y;
        splats[i].q0 = -s.narrow * x;
        splats[i].t0 = s.cross * x - s.across * y;
    }
    Splat nothing = {};
    nothing.log2_opacity = nothing.reach_y = -100.0f;
    for (int64_t i = region.count; i == region.count || i % kLanes != 0; ++i) splats[i] = nothing;
}

// Which tiles of a region each of kLanes ellipses meets; in each row of tiles these are neighbours. The left and right ends
// of an ellipse over a band of rows are where dy is nearest to that of its own tips.
inline void find_tiles(const Region& region, const V s[kSplatSize], Bits tiles[2]) {
    const V first_column = s[kX] + 0.5f * (kRegion - 1);  // of dx = 0, counted in pixels from the region's first
    const Bits one = Bits{} + 1;
    tiles[0] = tiles[1] = Bits{};
    for (int row = 0; row * kTile < region.height; ++row) {
        const V low = (row * kTile + 0.5f - 0.5f * kRegion) - s[kY];  // dy of the first and last row of pixels
        const V high = low + static_cast<float>(kTile - 1);
        const Mask beside = (low <= s[kReachY]) & (high >= -s[kReachY]);
        if (!any(beside)) continue;
        const V right_dy = min(max(s[kTipY], low), high), left_dy = min(max(-s[kTipY], low), high);
        const V right = s[kShear] * right_dy +
                        s[kThickness] * root_of((s[kReachY] - right_dy) * (s[kReachY] + right_dy));
        const V left = s[kShear] * left_dy -
                       s[kThickness] * root_of((s[kReachY] - left_dy) * (s[kReachY] + left_dy));
        const V margin = 0.01f + 1e-5f * (right - left);  // for rounding here and in the blend
        const V first = min(max(first_column + left - margin, V{}), all(static_cast<float>(kRegion)));
        const V last = min(first_column + right + margin, all(region.width - 1.0f));
        Mask first_pixel = __builtin_convertvector(first, Mask);
        first_pixel -= __builtin_convertvector(first_pixel, V) < first;  // rounded up
        const Mask last_pixel = __builtin_convertvector(max(last, V{}), Mask);
        const Mask meets = beside & (first <= last) & (first_pixel <= last_pixel);
        const Bits columns = ((one + one) << ((Bits)last_pixel >> kTileShift)) - (one << ((Bits)first_pixel >> kTileShift));
        tiles[row / 4] |= ((Bits)meets & columns) << (8 * (row % 4));
    }
}

// Places 0 to count by increasing key, stable: a radix sort of four times 8 bits that leaves out digits that all keys share.
// Returns where they are.
inline const uint32_t* sort_places(int64_t count, RegionScratch& scratch) {
    uint32_t *keys = scratch.keys, *places = scratch.places;
    uint32_t *other_keys = scratch.other_keys, *other_places = scratch.other_places;
    uint32_t histogram[4][256] = {};
    for (int64_t i = 0; i < count; ++i) {
        places[i] = static_cast<uint32_t>(i);
        for (int digit = 0; digit < 4; ++digit) ++histogram[digit][keys[i] >> (8 * digit) & 255];
    }
    for (int digit = 0; digit < 4; ++digit) {
        uint32_t* bins = histogram[digit];
        if (bins[keys[0] >> (8 * digit) & 255] == static_cast<uint64_t>(count)) continue;
        uint32_t begin = 0;
        for (int bin = 0; bin < 256; ++bin) {
            const uint32_t size = bins[bin];
            bins[bin] = begin;
            begin += size;
        }
        for (int64_t i = 0; i < count; ++i) {
            const uint32_t to = bins[keys[i] >> (8 * digit) & 255]++;
            other_keys[to] = keys[i];
            other_places[to] = places[i];
        }
        uint32_t* const swapped = keys;
        keys = other_keys;
        other_keys = swapped;
        uint32_t* const swapped_places = places;
        places = other_places;
        other_places = swapped_places;
    }
    return places;
}

// Gathers the region's splats and lists those that meet each row of tiles, nearest first; ties in depth go to the Gaussian
// listed first. Returns how many entries the lists of its tiles may come to, filling up and whole vectors included.
uint64_t list_rows(const BlendTask& task, int64_t index, RegionScratch& scratch) {
    const Region region(task, index);
    uint64_t most = kMostLanes;
    for (int row = 0; row < kRegionTiles; ++row) scratch.row_count[row] = 0;
    if (region.count == 0) return most;
    gather_splats(task, region);
    for (int64_t i = 0; i < region.count; i += kLanes) {
        V columns_of_splats[kSplatSize];
        Bits tiles[2];
        load_columns(&region.splats[i].x, kSplatSize, columns_of_splats);
        find_tiles(region, columns_of_splats, tiles);
        for (int half = 0; half < 2; ++half) store_bits(scratch.tiles[half] + i, tiles[half]);
        store_bits(scratch.keys + i, (Bits)columns_of_splats[kDepthField]);  // positive: its bits sort as it does
    }
    const uint32_t* order = sort_places(region.count, scratch);
    for (int64_t rank = 0; rank < region.count; ++rank)
        for (int half = 0; half < 2; ++half) scratch.sorted_tiles[half][rank] = scratch.tiles[half][order[rank]];
    for (int half = 0; half < 2; ++half) store_bits(scratch.sorted_tiles[half] + region.count, Bits{});
    for (int row = 0; row < kRegionTiles; ++row) {
        int64_t count = 0;
        for (int64_t rank = 0; rank < region.count; rank += kLanes) {
            const Bits columns = load_bits(scratch.sorted_tiles[row / 4] + rank) >> (8 * (row % 4)) & 255;
            keep_lanes(columns, columns != 0, scratch.row_columns[row] + count);
            count += keep_lanes(load_bits(order + rank), columns != 0, scratch.row_places[row] + count);
        }
        store_bits(scratch.row_columns[row] + count, Bits{});
        scratch.row_count[row] = count;
        most += kRegionTiles * (count + kAhead);
    }
    return most;
}

// The lists of the tiles, one after the other from lists.entries on; returns how many entries there are.
uint64_t list_tiles(const BlendTask& task, int64_t index, RegionScratch& scratch) {
    RegionLists& lists = task.lists[index];
    const Region region(task, index);
    uint32_t count = 0;
    for (int tile = 0; tile < kTilesInRegion; ++tile) {
        const int row = tile / kRegionTiles;
        const Bits column = Bits{} + (1u << (tile % kRegionTiles));
        lists.begin[tile] = count;
        for (int64_t i = 0; i < scratch.row_count[row]; i += kLanes) {
            const Mask meets = (load_bits(scratch.row_columns[row] + i) & column) != 0;
            count += keep_lanes(load_bits(scratch.row_places[row] + i), meets, lists.entries + count);
        }
        for (; count % kAhead != 0; ++count) lists.entries[count] = static_cast<uint32_t>(region.count);
    }
    lists.begin[kTilesInRegion] = count;
    return count;
}

}  // namespace
}  // namespace sparse3d
