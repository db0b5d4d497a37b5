#include "tiles.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <stdexcept>
#include <utility>

#include "thread_pool.h"

namespace sparse3d {

namespace {

constexpr uint32_t kMostEntries = 0xffffff00u;

// Tiles [first, last] of one tile row; first > last where there is none.
uint32_t pack_span(uint32_t first, uint32_t last) { return first << 16 | last; }
uint32_t span_first(uint32_t span) { return span >> 16; }
uint32_t span_last(uint32_t span) { return span & 0xffffu; }

// Indices of what is drawn by increasing depth, stable: a radix sort of three times 11 bits. Depths are positive, so their
// bits sort as they do. Returns how many.
int64_t sort_by_depth(int64_t count, const Splat* splats, const TileBox* boxes, TileScratch& scratch) {
    scratch.keys.resize(count);
    scratch.other_keys.resize(count);
    scratch.order.resize(count);
    scratch.other_order.resize(count);
    uint32_t histogram[3][2048] = {};
    uint32_t* keys = scratch.keys.data();
    uint32_t* order = scratch.order.data();
    int64_t drawn = 0;
    for (int64_t i = 0; i < count; ++i) {
        if (boxes[i].x0 > boxes[i].x1) continue;
        uint32_t key;
        std::memcpy(&key, &splats[i].depth, sizeof key);
        keys[drawn] = key;
        order[drawn++] = static_cast<uint32_t>(i);
        ++histogram[0][key & 2047];
        ++histogram[1][key >> 11 & 2047];
        ++histogram[2][key >> 22];
    }
    uint32_t* other_keys = scratch.other_keys.data();
    uint32_t* other_order = scratch.other_order.data();
    for (int pass = 0; pass < 3; ++pass) {
        uint32_t begin = 0;
        for (uint32_t& bin : histogram[pass]) begin += std::exchange(bin, begin);
        for (int64_t i = 0; i < drawn; ++i) {
            const uint32_t to = histogram[pass][keys[i] >> (11 * pass) & 2047]++;
            other_keys[to] = keys[i];
            other_order[to] = order[i];
        }
        std::swap(keys, other_keys);
        std::swap(order, other_order);
    }
    std::swap(scratch.order, scratch.other_order);  // three passes end in the other one
    return drawn;
}

// The tiles of tile row `row` that the ellipse meets. Its left and right ends over a band of rows are where dy is nearest
// to that of the ellipse's own tips.
uint32_t ellipse_span(const Camera& camera, const Splat& s, const TileBox& box, int row) {
    const float low = row * kTile + 0.5f - s.y;  // dy of the first and last row of pixels
    const float high = low + (kTile - 1);
    if (low > s.reach_y || high < -s.reach_y) return pack_span(1, 0);
    const auto half_width = [&](float dy) {
        return s.thickness * std::sqrt(std::max(0.0f, (s.reach_y - dy) * (s.reach_y + dy)));
    };
    const float right_dy = std::min(std::max(s.tip_y, low), high);
    const float left_dy = std::min(std::max(-s.tip_y, low), high);
    const float right = s.x + s.shear * right_dy + half_width(right_dy);
    const float left = s.x + s.shear * left_dy - half_width(left_dy);
    const float margin = 0.01f + 1e-5f * (right - left);  // for rounding here and in the blend
    const float first = std::max(left - margin - 0.5f, 0.0f);
    const float last = std::min(right + margin - 0.5f, camera.width - 1.0f);
    if (!(first <= last)) return pack_span(1, 0);  // also holds back what is too large for an integer
    int first_pixel = static_cast<int>(first);
    first_pixel += static_cast<float>(first_pixel) < first;  // rounded up
    const int last_pixel = static_cast<int>(last);
    if (first_pixel > last_pixel) return pack_span(1, 0);
    return pack_span(std::max<uint32_t>(first_pixel / kTile, box.x0), std::min<uint32_t>(last_pixel / kTile, box.x1));
}

}  // namespace

void make_tile_lists(const Camera& camera, int64_t count, const Splat* splats, const TileBox* boxes, int threads,
                     TileScratch& scratch, TileLists& lists) {
    const int64_t tiles = static_cast<int64_t>(camera.tiles_x) * camera.tiles_y;
    const int64_t drawn = sort_by_depth(count, splats, boxes, scratch);

    // Room for one span for each tile row of each box.
    scratch.row_begin.resize(count + 1);
    uint64_t rows = 0;
    for (int64_t i = 0; i < count; ++i) {
        scratch.row_begin[i] = static_cast<uint32_t>(rows);
        if (boxes[i].x0 <= boxes[i].x1) rows += boxes[i].y1 - boxes[i].y0 + 1u;
        if (rows > kMostEntries) throw std::length_error("too many Gaussians for so large an image");
    }
    scratch.row_begin[count] = static_cast<uint32_t>(rows);
    scratch.spans.resize(rows);

    // Spans, the number of tiles of each Gaussian, and of Gaussians of each tile (each worker counts for itself).
    lists.slot_begin.resize(count + 1);
    scratch.tile_counts.resize(static_cast<size_t>(threads) * tiles);
    std::fill_n(scratch.tile_counts.data(), static_cast<size_t>(threads) * tiles, 0u);
    parallel_for(count, 1024, threads, [&](int64_t begin, int64_t end, int worker) {
        uint32_t* tile_counts = scratch.tile_counts.data() + worker * tiles;
        for (int64_t i = begin; i < end; ++i) {
            const TileBox box = boxes[i];
            uint32_t* span = scratch.spans.data() + scratch.row_begin[i];
            uint32_t reached = 0;
            if (box.x0 <= box.x1) {
                for (int row = box.y0; row <= box.y1; ++row) {
                    const uint32_t tiles_here = ellipse_span(camera, splats[i], box, row);
                    *span++ = tiles_here;
                    const uint32_t first = span_first(tiles_here), last = span_last(tiles_here);
                    uint32_t* row_counts = tile_counts + static_cast<int64_t>(row) * camera.tiles_x;
                    for (uint32_t x = first; x <= last; ++x) ++row_counts[x];
                    if (first <= last) reached += last - first + 1;
                }
            }
            lists.slot_begin[i] = reached;
        }
    });

    uint64_t total = 0;
    for (int64_t i = 0; i <= count; ++i) {
        const uint32_t reached = i < count ? lists.slot_begin[i] : 0;
        lists.slot_begin[i] = static_cast<uint32_t>(total);
        total += reached;
        if (total > kMostEntries) throw std::length_error("too many Gaussians for so large an image");
    }
    lists.entry_count = static_cast<int64_t>(total);
    lists.entries.resize(total + kPrefetch);
    std::fill_n(lists.entries.data() + total, kPrefetch, Entry{0, 0});
    lists.tile_begin.resize(tiles + 1);
    uint32_t begin = 0;
    for (int64_t tile = 0; tile < tiles; ++tile) {
        uint32_t listed = 0;
        for (int worker = 0; worker < threads; ++worker) listed += scratch.tile_counts[worker * tiles + tile];
        lists.tile_begin[tile] = begin;
        scratch.tile_counts[tile] = begin;  // from here on: where the tile's next entry goes
        begin += listed;
    }
    lists.tile_begin[tiles] = begin;

    // In depth order into the lists; each worker looks at all Gaussians and owns a band of tile rows.
    const int bands = std::min(threads, camera.tiles_y);
    parallel_for(bands, 1, bands, [&](int64_t first_band, int64_t, int) {
        const int band_begin = static_cast<int>(camera.tiles_y * first_band / bands);
        const int band_end = static_cast<int>(camera.tiles_y * (first_band + 1) / bands);
        const uint32_t* order = scratch.order.data();
        uint32_t* next_entry = scratch.tile_counts.data();
        Entry* entries = lists.entries.data();
        for (int64_t rank = 0; rank < drawn; ++rank) {
            if (rank + 16 < drawn) {
                const uint32_t ahead = order[rank + 16];
                __builtin_prefetch(&boxes[ahead]);
                __builtin_prefetch(&lists.slot_begin[ahead]);
                __builtin_prefetch(&scratch.row_begin[ahead]);
            }
            if (rank + 8 < drawn) __builtin_prefetch(&scratch.spans[scratch.row_begin[order[rank + 8]]]);
            const uint32_t i = order[rank];
            const TileBox box = boxes[i];
            if (box.y1 < band_begin || box.y0 >= band_end) continue;
            const uint32_t* span = scratch.spans.data() + scratch.row_begin[i];
            uint32_t slot = lists.slot_begin[i];
            const int row_end = std::min<int>(box.y1 + 1, band_end);
            for (int row = box.y0; row < row_end; ++row, ++span) {
                const uint32_t first = span_first(*span), last = span_last(*span);
                if (first > last) continue;
                if (row >= band_begin) {
                    uint32_t* next = next_entry + static_cast<int64_t>(row) * camera.tiles_x;
                    for (uint32_t x = first; x <= last; ++x) entries[next[x]++] = {i, slot + (x - first)};
                }
                slot += last - first + 1;
            }
        }
    });
}

}  // namespace sparse3d
