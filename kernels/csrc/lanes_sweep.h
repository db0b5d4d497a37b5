// What the plane sweeps of grey images share: warping a row of a source, pooling the sources, tiles. The lanes
// of a vector are neighbouring planes at one pixel, so that windows move by whole vectors, and what depends on the pixel
// alone is computed once for all of them. The scores are in lanes_zncc.h and lanes_census.h.
#pragma once

#include "layout_sweep.h"
#include "lanes_transfer.h"

namespace sparse3d {
namespace {

static_assert(kSweepPlanes % kLanes == 0, "pieces are whole vectors");

// The two rows of the quads at `index`: pixel in the low, its right neighbour in the high 16 bits. 64 bits for each
// lane make half the loads of two gathers of 32.
inline void gather_quads(const uint64_t* quads, Mask index, Bits& upper, Bits& lower) {
#if defined(__AVX512F__)
    const __m512i i = (__m512i)index;
    const Bits a = (Bits)_mm512_i32gather_epi64(_mm512_castsi512_si256(i), quads, 8);
    const Bits b = (Bits)_mm512_i32gather_epi64(_mm512_extracti64x4_epi64(i, 1), quads, 8);
    upper = SPARSE3D_SHUFFLE(a, b, 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    lower = SPARSE3D_SHUFFLE(a, b, 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31);
#elif defined(__AVX2__)
    const __m256i i = (__m256i)index;
    const long long* const p = reinterpret_cast<const long long*>(quads);
    const Bits a = (Bits)_mm256_i32gather_epi64(p, _mm256_castsi256_si128(i), 8);
    const Bits b = (Bits)_mm256_i32gather_epi64(p, _mm256_extracti128_si256(i, 1), 8);
    upper = SPARSE3D_SHUFFLE(a, b, 0, 2, 4, 6, 8, 10, 12, 14);
    lower = SPARSE3D_SHUFFLE(a, b, 1, 3, 5, 7, 9, 11, 13, 15);
#else
    for (int l = 0; l < kLanes; ++l) {
        const uint64_t quad = quads[index[l]];
        upper[l] = static_cast<uint32_t>(quad);
        lower[l] = static_cast<uint32_t>(quad >> 32);
    }
#endif
}

struct SweepTile {
    int x0, y0, x1, y1;  // pixels, the ends not included
};

// Calls write(column, sample, inside) for the source samples of row y at columns [first, first + columns); samples are 0
// beyond the reference. inside: whether the source sees the point.
template <class Write>
inline void warp_row(const SweepTask& task, const SweepSource& source, V depth, int y, int first, int columns,
                     const Write& write) {
    const WarpedRow row(source.camera, y);
    const V width = all(static_cast<float>(source.camera.width)), height = all(static_cast<float>(source.camera.height));
    const V zero = {};
    const bool exists = y >= 0 && y < task.height;
    const int begin = exists && first < 0 ? -first : 0;
    const int end = !exists ? 0 : task.width - first < columns ? task.width - first : columns;
    for (int c = 0; c < begin; ++c) write(c, zero, Mask{});
    for (int c = end; c < columns; ++c) write(c, zero, Mask{});
    const float* const relief = task.relief + static_cast<int64_t>(y) * task.width + first;
    for (int c = begin; c < end; ++c) {
        const Warped at = row.warp(first + c, depth * relief[c]);
        const Mask inside = at.ahead & (at.x > zero) & (at.y > zero) & (at.x < width) & (at.y < height);

        // bilinear between pixel centres, borders repeated; max before min: not a number becomes 0
        const V sx = min(max(at.x - 0.5f, zero), width - 1.0f), sy = min(max(at.y - 0.5f, zero), height - 1.0f);
        const Mask ix = truncate(sx), iy = truncate(sy);
        const V fx = sx - to_float(ix), fy = sy - to_float(iy);
        Bits upper, lower;
        gather_quads(source.quads, iy * source.camera.width + ix, upper, lower);
        const V a = to_float((Mask)(upper & 0xffffu)), b = to_float((Mask)(upper >> 16));
        const V d = to_float((Mask)(lower & 0xffffu)), e = to_float((Mask)(lower >> 16));
        const V above = a + fx * (b - a), below = d + fx * (e - d);
        write(c, (above + fy * (below - above)) * source.step + source.offset, inside);
    }
}

// pooled of sweep.py over the scores of all sources, `step` vectors apart. Up to four are sorted in registers, more
// in place. kSources: how many, or 0 when known only at run time.
template <int kSources>
inline V pooled(V* scores, int64_t step, int64_t source_count) {
    V few[kSources > 0 ? kSources : 1];
    const int64_t sources = kSources > 0 ? kSources : source_count;
    if (kSources > 0) {
        for (int s = 0; s < kSources; ++s) few[s] = scores[s * step];
        scores = few;
        step = 1;
    }
#pragma GCC unroll 4
    for (int64_t s = 1; s < sources; ++s) {
        V value = scores[s * step];
#pragma GCC unroll 4
        for (int64_t k = 0; k < s; ++k) {
            const V other = scores[k * step];
            scores[k * step] = max(other, value);
            value = min(other, value);
        }
        scores[s * step] = value;
    }
    const Mask any_sees = scores[0] > -1.5f;
    if (sources == 1) return any_sees ? scores[0] : all(-1.0f);
    if (sources == 2) {  // half of two is one
        const V mean = scores[step] > -1.5f ? 0.5f * (scores[0] + scores[step]) : scores[0];
        return any_sees ? 0.5f * (scores[0] + mean) : all(-1.0f);
    }
    V seen = {}, best = {}, sum = {};
#pragma GCC unroll 4
    for (int64_t s = 0; s < sources; ++s) {
        const Mask sees = scores[s * step] > -1.5f;
        seen += select(sees, all(1.0f));
        sum += select(sees, scores[s * step]);
    }
    const V wanted = max(to_float(truncate(0.5f * (seen + 1.0f))), all(1.0f));
#pragma GCC unroll 4
    for (int64_t s = 0; s < (sources + 1) / 2; ++s)
        best += select(all(static_cast<float>(s)) < wanted, scores[s * step]);
    return any_sees ? 0.5f * (best / wanted + sum / seen) : all(-1.0f);
}

constexpr int kPixelsWritten = 12;  // ahead, whose memory is asked for: scores of neighbours lie far apart

// Writes a tile's pooled scores at the vector of planes from `plane` on.
template <int kSources>
void write_tile(const SweepTask& task, const SweepTile& tile, int plane, V* scores) {
    const int across = tile.x1 - tile.x0, pixels = across * (tile.y1 - tile.y0);
    const int64_t ahead = 4 * kPixelsWritten * static_cast<int64_t>(task.planes);  // bytes
    const int planes = plane + kLanes < task.planes ? kLanes : task.planes - plane;
    for (int y = tile.y0; y < tile.y1; ++y) {
        V* const row = scores + (y - tile.y0) * across;
        float* out = task.scores + (static_cast<int64_t>(y) * task.width + tile.x0) * task.planes + plane;
        for (int c = 0; c < across; ++c, out += task.planes) {
            __builtin_prefetch(reinterpret_cast<void*>(reinterpret_cast<uintptr_t>(out) + ahead), 1);
            const V score = pooled<kSources>(row + c, pixels, task.source_count);
            if (planes == kLanes)
                store(out, score);
            else
                for (int l = 0; l < planes; ++l) out[l] = score[l];
        }
    }
}

// Pieces [begin, end) of kSweepPlanes planes of a tile, the pieces of a tile in a row. `scratch` holds the scores of a
// tile for each source, kSweepPlanes each. score(source, tile, depth, scores) gives those against one source, -2 where it
// sees nothing.
template <class Score>
inline void sweep_tiles(const SweepTask& task, int64_t begin, int64_t end, float* scratch, const Score& score) {
    const int pieces = (task.planes + kSweepPlanes - 1) / kSweepPlanes;
    V* const scores = reinterpret_cast<V*>(scratch);
    for (int64_t index = begin; index < end; ++index) {
        const int tile_index = static_cast<int>(index / pieces), piece = static_cast<int>(index % pieces);
        SweepTile tile;
        tile.x0 = tile_index % task.tiles_across * task.tile_width;
        tile.y0 = tile_index / task.tiles_across * task.tile_height;
        tile.x1 = tile.x0 + task.tile_width < task.width ? tile.x0 + task.tile_width : task.width;
        tile.y1 = tile.y0 + task.tile_height < task.height ? tile.y0 + task.tile_height : task.height;
        const int across = tile.x1 - tile.x0, pixels = across * (tile.y1 - tile.y0);
        const int last = (piece + 1) * kSweepPlanes < task.planes ? (piece + 1) * kSweepPlanes : task.planes;
        for (int plane = piece * kSweepPlanes; plane < last; plane += kLanes) {
            const V depth = load(task.depths + plane);
            for (int64_t s = 0; s < task.source_count; ++s) score(task.sources[s], tile, depth, scores + s * pixels);
            switch (task.source_count) {
                case 1: write_tile<1>(task, tile, plane, scores); break;
                case 2: write_tile<2>(task, tile, plane, scores); break;
                case 3: write_tile<3>(task, tile, plane, scores); break;
                case 4: write_tile<4>(task, tile, plane, scores); break;
                default: write_tile<0>(task, tile, plane, scores);
            }
        }
    }
}

}  // namespace
}  // namespace sparse3d
