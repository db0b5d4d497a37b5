#include "regions.h"

#include <algorithm>
#include <stdexcept>

#include "thread_pool.h"

namespace sparse3d {

namespace {

constexpr uint64_t kMostPairs = uint64_t{1} << 31;

// How many regions Gaussian i meets.
uint64_t regions_of(const RegionCounts& counts, int64_t i) {
    const uint32_t x = counts.boxes_x[i], y = counts.boxes_y[i];
    return uint64_t{(x >> 16) + 1 - (x & 0xffffu)} * ((y >> 16) + 1 - (y & 0xffffu));
}

// Calls visit(region) for the regions of Gaussian i, row after row.
template <class Visit>
void for_each_region(const RegionCounts& counts, int regions_x, int64_t i, Visit visit) {
    const uint32_t x = counts.boxes_x[i], y = counts.boxes_y[i];
    const uint32_t last_x = x >> 16, last_y = y >> 16;
    for (uint32_t row = y & 0xffffu; row <= last_y; ++row)
        for (uint32_t column = x & 0xffffu; column <= last_x; ++column) visit(row * regions_x + column);
}

}  // namespace

// Three passes over the Gaussians, each worker through its own range of them: add up, count in regions, then write. Between
// them, ranges and regions get their places in the order in which one worker alone would have filled them.
void find_members(const Camera& camera, int64_t count, int threads, RegionCounts& counts, Members& members) {
    const int64_t regions = static_cast<int64_t>(camera.regions_x) * camera.regions_y;
    const int64_t blocks = (count + kBlock - 1) / kBlock;
    const int ranges = static_cast<int>(std::max<int64_t>(1, std::min<int64_t>(threads, blocks)));
    const auto range_begin = [&](int64_t range) { return std::min(count, blocks * range / ranges * kBlock); };
    counts.totals.resize(ranges);
    parallel_for(ranges, 1, ranges, [&](int64_t range, int64_t, int) {
        uint64_t total = 0;
        for (int64_t i = range_begin(range), end = range_begin(range + 1); i < end; ++i) total += regions_of(counts, i);
        counts.totals[range] = total;
    });
    uint64_t total = 0;
    for (int range = 0; range < ranges; ++range) {
        const uint64_t in_range = counts.totals[range];
        counts.totals[range] = total;
        total += in_range;
    }
    if (total >= kMostPairs)
        throw std::length_error("means: these Gaussians meet 2^31 or more regions of the image; draw fewer, or a smaller image");

    counts.counts.resize(static_cast<size_t>(ranges) * regions);
    counts.corners.resize(static_cast<size_t>(ranges) * regions);
    parallel_for(ranges, 1, ranges, [&](int64_t range, int64_t, int) {
        uint32_t* in_region = counts.counts.data() + range * regions;
        Corners* corners = counts.corners.data() + range * regions;
        std::fill_n(in_region, regions, 0u);
        std::fill_n(corners, regions, Corners{});
        for (int64_t i = range_begin(range), end = range_begin(range + 1); i < end; ++i) {
            const uint32_t x = counts.boxes_x[i], y = counts.boxes_y[i];
            const uint32_t across = (x >> 16) - (x & 0xffffu), down = (y >> 16) - (y & 0xffffu);  // all ones for kNowhere
            if (across > 1 || down > 1) {
                for_each_region(counts, camera.regions_x, i, [&](uint32_t region) { ++in_region[region]; });
                continue;
            }
            // Nearly all meet one to four regions, in no order that a branch could be guessed from. Neighbours in memory often
            // begin in the same one, so that they wait for each other's sums: once each, as the four are side by side.
            Corners& first = corners[(y & 0xffffu) * camera.regions_x + (x & 0xffffu)];
            first.here += 1;
            first.right += across;
            first.below += down;
            first.below_right += across & down;
        }
        for (int64_t region = 0; region < regions; ++region) {
            const Corners& first = corners[region];
            in_region[region] += first.here;
            if (first.right) in_region[region + 1] += first.right;
            if (first.below) in_region[region + camera.regions_x] += first.below;
            if (first.below_right) in_region[region + camera.regions_x + 1] += first.below_right;
        }
    });
    members.region_begin.resize(regions + 1);
    uint32_t begin = 0;
    for (int64_t region = 0; region < regions; ++region) {
        members.region_begin[region] = begin;
        for (int range = 0; range < ranges; ++range) {
            uint32_t& in_region = counts.counts[range * regions + region];
            const uint32_t here = in_region;
            in_region = begin;
            begin += here;
        }
    }
    members.region_begin[regions] = begin;
    members.members.resize(total);
    members.places.resize(total);
    members.place_begin.resize(count + 1);
    members.place_begin[count] = static_cast<uint32_t>(total);
    parallel_for(ranges, 1, ranges, [&](int64_t range, int64_t, int) {
        uint32_t* next = counts.counts.data() + range * regions;
        uint32_t place = static_cast<uint32_t>(counts.totals[range]);
        for (int64_t i = range_begin(range), end = range_begin(range + 1); i < end; ++i) {
            members.place_begin[i] = place;
            for_each_region(counts, camera.regions_x, i, [&](uint32_t region) {
                members.members[next[region]] = static_cast<uint32_t>(i);
                members.places[place++] = next[region]++;
            });
        }
    });
}

}  // namespace sparse3d
