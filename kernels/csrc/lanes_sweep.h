// Plane sweep: zncc_sweep of sweep.py. The lanes of a vector are neighbouring planes at one pixel, so that windows move
// by whole vectors, and what depends on the pixel alone is computed once for all of them.
#pragma once

#include "layout_sweep.h"
#include "simd.h"

namespace sparse3d {
namespace {

constexpr int kSweepColumns = kSweepTileWidth + 2 * kSweepMostHalf;
static_assert(kSweepPlanes % kLanes == 0, "pieces are whole vectors");

// 1 / a and 1 / sqrt(a) to about 2e-7, for normal positive numbers.
#if defined(__AVX512F__)
inline V reciprocal(V a) {
    const V r = (V)_mm512_rcp14_ps((__m512)a);
    return r * (2.0f - a * r);
}
inline V inverse_sqrt(V a) {
    const V r = (V)_mm512_rsqrt14_ps((__m512)a);
    return r * (1.5f - 0.5f * a * r * r);
}
#elif defined(__AVX2__)
inline V reciprocal(V a) {
    const V r = (V)_mm256_rcp_ps((__m256)a);
    return r * (2.0f - a * r);
}
inline V inverse_sqrt(V a) {
    const V r = (V)_mm256_rsqrt_ps((__m256)a);
    return r * (1.5f - 0.5f * a * r * r);
}
#else
inline V reciprocal(V a) { return 1.0f / a; }
inline V inverse_sqrt(V a) { return 1.0f / sqrt(a); }
#endif

inline V to_float(Mask integers) { return __builtin_convertvector(integers, V); }
inline Mask truncate(V a) { return __builtin_convertvector(a, Mask); }

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

// Source samples of row y at columns [first, first + columns), 0 beyond the image. The lowest bit of a sample, far
// below what 16 bits of grey resolve, says whether the source sees the point.
inline void warp_row(const SweepTask& task, const SweepSource& source, V depth, int y, int first, int columns, V* out) {
    const double v = y + 0.5;
    const double row[3] = {source.turn[1] * v + source.turn[2], source.turn[4] * v + source.turn[5],
                           source.turn[7] * v + source.turn[8]};
    const V width = all(static_cast<float>(source.width)), height = all(static_cast<float>(source.height));
    const V zero = {}, nearest = all(1e-9f);
    const bool exists = y >= 0 && y < task.height;
    const int begin = exists && first < 0 ? -first : 0;
    const int end = !exists ? 0 : task.width - first < columns ? task.width - first : columns;
    for (int c = 0; c < begin; ++c) out[c] = zero;
    for (int c = end; c < columns; ++c) out[c] = zero;
    for (int c = begin; c < end; ++c) {
        const int x = first + c;
        const double u = x + 0.5;
        const V z = depth * static_cast<float>(source.turn[6] * u + row[2]) + source.shift[2];
        const V inverse = reciprocal(max(z, nearest));
        const V px = (depth * static_cast<float>(source.turn[0] * u + row[0]) + source.shift[0]) * inverse;
        const V py = (depth * static_cast<float>(source.turn[3] * u + row[1]) + source.shift[1]) * inverse;
        const Mask inside = (z > nearest) & (px > zero) & (py > zero) & (px < width) & (py < height);

        // bilinear between pixel centres, borders repeated; max before min: not a number becomes 0
        const V sx = min(max(px - 0.5f, zero), width - 1.0f), sy = min(max(py - 0.5f, zero), height - 1.0f);
        const Mask ix = truncate(sx), iy = truncate(sy);
        const V fx = sx - to_float(ix), fy = sy - to_float(iy);
        Bits upper, lower;
        gather_quads(source.quads, iy * source.width + ix, upper, lower);
        const V a = to_float((Mask)(upper & 0xffffu)), b = to_float((Mask)(upper >> 16));
        const V d = to_float((Mask)(lower & 0xffffu)), e = to_float((Mask)(lower >> 16));
        const V above = a + fx * (b - a), below = d + fx * (e - d);
        const V sample = (above + fy * (below - above)) * source.step + source.offset;
        out[c] = (V)(((Bits)sample & ~1u) | ((Bits)inside & 1u));
    }
}

// Scores of a tile against one source, -2 where it sees nothing. kSide: the window, or 0 when known only at run time.
template <int kSide>
void score_tile(const SweepTask& task, const SweepSource& source, const SweepTile& tile, V depth, V* scores) {
    const int side = kSide > 0 ? kSide : task.window, half = side / 2;
    const int across = tile.x1 - tile.x0, columns = across + 2 * half;
    V ring[kSweepMostWindow][kSweepColumns], sums[3][kSweepColumns];
    float scale[kSweepTileWidth];  // 1 / pixels of the window
    int rows_before = 0;
    for (int y = tile.y0 - half; y < tile.y1 + half; ++y) {
        warp_row(task, source, depth, y, tile.x0 - half, columns, ring[(y + side) % side]);
        const int centre = y - half;
        if (centre < tile.y0) continue;

        const V* samples[kSweepMostWindow];
        const float* greys[kSweepMostWindow];
        int rows = 0;
        for (int k = 0; k < side; ++k) {
            const int at = centre - half + k;
            const bool exists = at >= 0 && at < task.height;  // if not, its samples are 0 and any greys do
            rows += exists;
            samples[k] = ring[(at + side) % side];
            greys[k] = task.reference + (exists ? at : centre) * task.stride + kSweepMostHalf + tile.x0 - half;
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

// best_half of sweep.py over the scores of all sources, `step` vectors apart. Up to four are sorted in registers, more
// in place. kSources: how many, or 0 when known only at run time.
template <int kSources>
inline V best_half(V* scores, int64_t step, int64_t source_count) {
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
    if (sources <= 2) return any_sees ? scores[0] : all(-1.0f);  // half of one or two is one
    V seen = {}, sum = {};
#pragma GCC unroll 4
    for (int64_t s = 0; s < sources; ++s) seen += select(scores[s * step] > -1.5f, all(1.0f));
    const V wanted = max(to_float(truncate(0.5f * (seen + 1.0f))), all(1.0f));
#pragma GCC unroll 4
    for (int64_t s = 0; s < (sources + 1) / 2; ++s)
        sum += select(all(static_cast<float>(s)) < wanted, scores[s * step]);
    return any_sees ? sum / wanted : all(-1.0f);
}

constexpr int kPixelsWritten = 12;  // ahead, whose memory is asked for: scores of neighbours lie far apart

// Writes the best half of a tile's scores at the vector of planes from `plane` on.
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
            const V score = best_half<kSources>(row + c, pixels, task.source_count);
            if (planes == kLanes)
                store(out, score);
            else
                for (int l = 0; l < planes; ++l) out[l] = score[l];
        }
    }
}

// Pieces [begin, end) of kSweepPlanes planes of a tile, the pieces of a tile in a row. `scratch` holds the scores of a
// tile for each source, kSweepPlanes each.
void sweep(const SweepTask& task, int64_t begin, int64_t end, float* scratch) {
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
            for (int64_t s = 0; s < task.source_count; ++s) {
                if (task.window == 5)
                    score_tile<5>(task, task.sources[s], tile, depth, scores + s * pixels);
                else if (task.window == 7)
                    score_tile<7>(task, task.sources[s], tile, depth, scores + s * pixels);
                else
                    score_tile<0>(task, task.sources[s], tile, depth, scores + s * pixels);
            }
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
