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
        count = task.region_begin[index + 1] - task.region_begin[index];
    }
};

// The region's splats side by side, relative to its middle. The last vector is filled up with copies of the last one.
inline void gather_splats(const BlendTask& task, const Region& region, Splat* splats) {
    for (int64_t k = 0; k < region.count; ++k) {
        splats[k] = task.splats[region.members[k]];
        splats[k].x -= region.middle_x;
        splats[k].y -= region.middle_y;
    }
    for (int64_t k = region.count; k % kLanes != 0; ++k) splats[k] = splats[region.count - 1];
}

// Which tiles of a region each of kLanes ellipses meets, as in RegionScratch; in each row of tiles these are neighbours.
// The left and right ends of an ellipse over a band of rows are where dy is nearest to that of its own tips.
inline void find_tiles(const Region& region, const Splat* splats, Bits& upper, Bits& lower) {
    V s[kSplatSize];
    load_columns(&splats->x, kSplatSize, s);
    const V margin_base = s[kX] + 0.5f * (kRegion - 1);  // of dx, to count in pixels of the region
    const Bits one = Bits{} + 1;
    upper = lower = Bits{};
    for (int row = 0; row * kTile < region.height; ++row) {
        const V low = (row * kTile + 0.5f - 0.5f * kRegion) - s[kY];  // dy of the first and last row of pixels
        const V high = low + static_cast<float>(kTile - 1);
        const Mask beside = (low <= s[kReachY]) & (high >= -s[kReachY]);
        if (!any(beside)) continue;
        const V right_dy = min(max(s[kTipY], low), high), left_dy = min(max(-s[kTipY], low), high);
        const V right = s[kShear] * right_dy +
                        s[kThickness] * sqrt(max((s[kReachY] - right_dy) * (s[kReachY] + right_dy), V{}));
        const V left = s[kShear] * left_dy -
                       s[kThickness] * sqrt(max((s[kReachY] - left_dy) * (s[kReachY] + left_dy), V{}));
        const V margin = 0.01f + 1e-5f * (right - left);  // for rounding here and in the blend
        const V first = min(max(margin_base + left - margin, V{}), all(static_cast<float>(kRegion)));
        const V last = min(margin_base + right + margin, all(region.width - 1.0f));
        Mask first_pixel = __builtin_convertvector(first, Mask);
        first_pixel -= __builtin_convertvector(first_pixel, V) < first;  // rounded up
        const Mask last_pixel = __builtin_convertvector(max(last, V{}), Mask);
        const Mask meets = beside & (first <= last) & (first_pixel <= last_pixel);
        const Bits columns = ((one + one) << ((Bits)last_pixel >> kTileShift)) - (one << ((Bits)first_pixel >> kTileShift));
        const Bits tiles = (columns & (Bits)meets) << (8 * (row % 4));
        if (row < 4)
            upper |= tiles;
        else
            lower |= tiles;
    }
}

// Places 0 to count by increasing key, stable: a radix sort of four times 8 bits that leaves out digits that all keys share.
// Returns where they are.
inline const uint32_t* sort_places(int64_t count, RegionScratch& scratch) {
    uint32_t *keys = scratch.keys, *places = scratch.order;
    uint32_t *other_keys = scratch.other_keys, *other_places = scratch.other_order;
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

// Gathers the region's splats and counts the entries of its tiles: sets `begin` of its lists and returns how many there are.
uint64_t count_entries(const BlendTask& task, int64_t index, RegionScratch& scratch) {
    RegionLists& lists = task.lists[index];
    const Region region(task, index);
    uint64_t counts[kTilesInRegion] = {};
    if (region.count > 0) {
        gather_splats(task, region, scratch.splats);
        for (int64_t i = 0; i < region.count; i += kLanes) {
            Bits upper, lower;
            find_tiles(region, scratch.splats + i, upper, lower);
            __builtin_memcpy(scratch.upper_tiles + i, &upper, sizeof upper);
            __builtin_memcpy(scratch.lower_tiles + i, &lower, sizeof lower);
        }
        for (int64_t i = 0; i < region.count; ++i) {
            uint64_t tiles = scratch.upper_tiles[i] | static_cast<uint64_t>(scratch.lower_tiles[i]) << 32;
            for (; tiles != 0; tiles &= tiles - 1) ++counts[__builtin_ctzll(tiles)];
        }
    }
    uint64_t total = 0;
    for (int tile = 0; tile < kTilesInRegion; ++tile) {
        lists.begin[tile] = static_cast<uint32_t>(total);
        total += counts[tile];
    }
    lists.begin[kTilesInRegion] = static_cast<uint32_t>(total);
    return total;
}

// Fills the lists that count_entries has counted, nearest first; ties in depth go to the Gaussian listed first.
inline void fill_lists(const Region& region, RegionScratch& scratch, RegionLists& lists) {
    if (region.count == 0) return;
    for (int64_t i = 0; i < region.count; ++i)  // depths are positive, so their bits sort as they do
        __builtin_memcpy(&scratch.keys[i], &scratch.splats[i].depth, sizeof(uint32_t));
    const uint32_t* order = sort_places(region.count, scratch);
    uint32_t* next[kTilesInRegion];
    for (int tile = 0; tile < kTilesInRegion; ++tile) next[tile] = lists.entries + lists.begin[tile];
    for (int64_t rank = 0; rank < region.count; ++rank) {
        const uint32_t place = order[rank];
        uint64_t tiles = scratch.upper_tiles[place] | static_cast<uint64_t>(scratch.lower_tiles[place]) << 32;
        for (; tiles != 0; tiles &= tiles - 1) *next[__builtin_ctzll(tiles)]++ = place;
    }
}

}  // namespace
}  // namespace sparse3d
