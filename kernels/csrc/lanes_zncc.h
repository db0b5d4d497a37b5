// Plane sweep by ZNCC: zncc_sweep of sweep.py.
#pragma once

#include "lanes_sweep.h"

namespace sparse3d {
namespace {

constexpr int kZnccColumns = kSweepTileWidth + 2 * kZnccMostHalf;

// Scores of a tile against one source, -2 where it sees nothing. kSide: the window, or 0 when known only at run time.
template <int kSide>
void zncc_tile(const ZnccTask& task, const SweepSource& source, const SweepTile& tile, V depth, V* scores) {
    const int side = kSide > 0 ? kSide : task.window, half = side / 2;
    const int across = tile.x1 - tile.x0, columns = across + 2 * half;
    V ring[kZnccMostWindow][kZnccColumns], sums[3][kZnccColumns];
    float scale[kSweepTileWidth];  // 1 / pixels of the window
    int rows_before = 0;
    for (int y = tile.y0 - half; y < tile.y1 + half; ++y) {
        V* const out = ring[(y + side) % side];
        // The lowest bit of a sample, far below what 16 bits of grey resolve, says whether the source sees the point.
        warp_row(task, source, depth, y, tile.x0 - half, columns, [out](int c, V sample, Mask inside) {
            out[c] = (V)(((Bits)sample & ~1u) | ((Bits)inside & 1u));
        });
        const int centre = y - half;
        if (centre < tile.y0) continue;

        const V* samples[kZnccMostWindow];
        const float* greys[kZnccMostWindow];
        int rows = 0;
        for (int k = 0; k < side; ++k) {
            const int at = centre - half + k;
            const bool exists = at >= 0 && at < task.height;  // if not, its samples are 0 and any greys do
            rows += exists;
            samples[k] = ring[(at + side) % side];
            greys[k] = task.reference + (exists ? at : centre) * task.stride + kZnccMostHalf + tile.x0 - half;
        }
        if (rows != rows_before)
            for (int x = tile.x0; x < tile.x1; ++x) {
                const int left = x > half ? x - half : 0;
                const int right = x + half + 1 < task.width ? x + half + 1 : task.width;
                scale[x - tile.x0] = 1.0f / static_cast<float>(rows * (right - left));
            }
        rows_before = rows;
        for (int c = 0; c < columns; ++c) {
            V s = {}, ss = {}, rs = {};
#pragma GCC unroll 11
            for (int k = 0; k < side; ++k) {
                const V sample = samples[k][c];
                s += sample;
                ss += sample * sample;
                rs += greys[k][c] * sample;
            }
            sums[0][c] = s;
            sums[1][c] = ss;
            sums[2][c] = rs;
        }

        const V* const seen_row = ring[(centre + side) % side] + half;
        const int64_t pixel = static_cast<int64_t>(centre) * task.width + tile.x0;
        for (int c = 0; c < across; ++c) {
            V s = {}, ss = {}, rs = {};
#pragma GCC unroll 11
            for (int k = 0; k < side; ++k) {
                s += sums[0][c + k];
                ss += sums[1][c + k];
                rs += sums[2][c + k];
            }
            const V mean = s * scale[c];
            const V variance = max(ss * scale[c] - mean * mean, V{}) + task.noise;
            const V covariance = rs * scale[c] - task.mean[pixel + c] * mean;
            const V score = covariance * task.inverse_deviation[pixel + c] * inverse_sqrt(variance);
            const Mask seen = ((Mask)seen_row[c] & 1) != 0;
            scores[(centre - tile.y0) * across + c] = seen ? score : all(-2.0f);
        }
    }
}

void zncc(const ZnccTask& task, int64_t begin, int64_t end, float* scratch) {
    sweep_tiles(task, begin, end, scratch, [&](const SweepSource& source, const SweepTile& tile, V depth, V* scores) {
        if (task.window == 5)
            zncc_tile<5>(task, source, tile, depth, scores);
        else if (task.window == 7)
            zncc_tile<7>(task, source, tile, depth, scores);
        else
            zncc_tile<0>(task, source, tile, depth, scores);
    });
}

}  // namespace
}  // namespace sparse3d
