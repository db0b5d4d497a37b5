#include "warp.h"

#include <algorithm>

#include "buffer.h"
#include "thread_pool.h"

namespace sparse3d {

namespace {

constexpr int kRows = 16;           // of one chunk
constexpr int kCornersAtOnce = 64;  // whose fringe triangles stay in the L2 cache

WarpBounds bounds_of(const std::vector<FringeTriangle>& triangles) {
    WarpBounds bounds = {kWarpFarthestPx, kWarpFarthestPx, -kWarpFarthestPx, -kWarpFarthestPx};
    for (const FringeTriangle& triangle : triangles) {
        bounds.x0 = std::min<float>(bounds.x0, triangle.x0);
        bounds.y0 = std::min<float>(bounds.y0, triangle.y0);
        bounds.x1 = std::max<float>(bounds.x1, triangle.x1 + 1.0f);
        bounds.y1 = std::max<float>(bounds.y1, triangle.y1 + 1.0f);
    }
    return bounds;
}

// The fringe around the corners from (left, top) on of a block as large as one of quads.
std::vector<FringeTriangle> fringe_of_block(const Isa& isa, const WarpSource& source, int left, int top) {
    const auto known = [&](int x, int y) {
        return x >= 0 && y >= 0 && x < source.width && y < source.height &&
               source.disparity[static_cast<int64_t>(y) * source.width + x] > 0.0f;
    };
    FringeTriangle triangles[kFringeOfCorner * kCornersAtOnce];
    WarpCorner corners[kCornersAtOnce];
    std::vector<FringeTriangle> all;
    int count = 0;
    const auto flush = [&] {
        all.insert(all.end(), triangles, triangles + isa.warp_fringe(source, corners, count, triangles));
        count = 0;
    };
    const int right = std::min(left + kWarpQuadColumns, source.width + 1);
    const int bottom = std::min(top + kWarpQuadRows, source.height + 1);
    for (int y = top; y < bottom; ++y)
        for (int x = left; x < right; ++x) {
            const bool inside = x > 0 && y > 0 && x < source.width && y < source.height;
            if (inside && source.full[(y - 1) * source.full_stride + x - 1] != 0) continue;
            if (!known(x, y) && !known(x - 1, y) && !known(x, y - 1) && !known(x - 1, y - 1)) continue;
            corners[count++] = {x, y};
            if (count == kCornersAtOnce) flush();
        }
    flush();
    return all;
}

// One photo's surface, and the memory that its WarpSource points to.
class Surface {
   public:
    Surface(const Isa& isa, WarpSource& source, int threads) {
        const int64_t pixels = static_cast<int64_t>(source.width) * source.height, plane = pixels + 2 * kWarpPad;
        float** const names[] = {&source.x,         &source.y,       &source.weight, &source.inverse_depth,
                                 &source.disparity, &source.slope_x, &source.slope_y};
        planes_.resize(std::size(names) * plane);
        for (size_t k = 0; k < std::size(names); ++k) *names[k] = planes_.data() + k * plane + kWarpPad;
        source.full_stride = (source.width + kWarpQuadColumns - 1) / kWarpQuadColumns * kWarpQuadColumns;
        joined_.resize(source.full_stride * source.height);
        full_.resize(source.full_stride * source.height);
        const int64_t block_rows = (source.height + kWarpQuadRows - 2) / kWarpQuadRows;  // of height - 1 quads
        bounds_.resize(block_rows * source.full_stride / kWarpQuadColumns);
        source.joined = joined_.data();
        source.full = full_.data();
        source.bounds = bounds_.data();
        parallel_for(source.height, kRows, threads,
                     [&](int64_t begin, int64_t end, int) { isa.warp_vertices(source, begin, end); });
        parallel_for(source.height, kRows, threads,
                     [&](int64_t begin, int64_t end, int) { isa.warp_joins(source, begin, end); });
        parallel_for(block_rows, 1, threads,
                     [&](int64_t begin, int64_t end, int) { isa.warp_quads(source, begin, end); });

        const int64_t lists_across = source.width / kWarpQuadColumns + 1;  // of width + 1 corners
        const int64_t lists = lists_across * (source.height / kWarpQuadRows + 1);
        triangles_.resize(lists);
        lists_.resize(lists);
        parallel_for(lists, 4, threads, [&](int64_t begin, int64_t end, int) {
            for (int64_t k = begin; k < end; ++k) {
                triangles_[k] = fringe_of_block(isa, source, static_cast<int>(k % lists_across) * kWarpQuadColumns,
                                                static_cast<int>(k / lists_across) * kWarpQuadRows);
                const std::vector<FringeTriangle>& found = triangles_[k];
                lists_[k] = {found.data(), static_cast<int64_t>(found.size()), bounds_of(found)};
            }
        });
        source.fringes = lists_.data();
        source.fringe_count = static_cast<int>(lists);
    }

   private:
    Buffer<float> planes_;
    Buffer<uint8_t> joined_;
    Buffer<int8_t> full_;
    Buffer<WarpBounds> bounds_;
    std::vector<std::vector<FringeTriangle>> triangles_;
    std::vector<FringeList> lists_;
};

}  // namespace

void forward_warp(const Isa& isa, std::vector<WarpSource> photos, WarpTask task, int threads) {
    std::vector<Surface> surfaces;
    for (WarpSource& photo : photos) surfaces.emplace_back(isa, photo, threads);
    task.sources = photos.data();
    task.source_count = static_cast<int>(photos.size());
    task.tiles_across = (task.width + kWarpTileWidth - 1) / kWarpTileWidth;
    const int64_t tiles_down = (task.height + kWarpTileHeight - 1) / kWarpTileHeight;
    const int64_t scratch_size = kWarpScratch * task.source_count;
    Buffer<float> scratch(scratch_size * threads);
    parallel_for(task.tiles_across * tiles_down, 1, threads, [&](int64_t begin, int64_t end, int worker) {
        isa.warp_tiles(task, begin, end, scratch.data() + worker * scratch_size);
    });
}

}  // namespace sparse3d
