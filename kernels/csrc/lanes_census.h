// Plane sweep by the census transform: census_sweep of census.py.
#pragma once

#include "lanes_sweep.h"

namespace sparse3d {
namespace {

constexpr int kCensusRows = 2 * kCensusHalfHeight + 1, kCensusColumns = 2 * kCensusHalfWidth + 1;

// `code` with `bit` set where a is below b.
inline Bits with_bit(Bits code, V a, V b, uint32_t bit) {
#if defined(__AVX512F__)
    const __mmask16 below = _mm512_cmp_ps_mask((__m512)a, (__m512)b, _CMP_LT_OQ);
    return (Bits)_mm512_mask_or_epi32((__m512i)code, below, (__m512i)code, _mm512_set1_epi32(static_cast<int>(bit)));
#else
    return code | ((Bits)(a < b) & bit);
#endif
}

// How many bits are set in both together: neighbouring bits, pairs and nibbles are added within each lane. No instruction
// set up to AVX-512 BW counts bits.
inline V count_bits(Bits a, Bits b) {
    a -= (a >> 1) & 0x55555555u;
    b -= (b >> 1) & 0x55555555u;
    a = (a & 0x33333333u) + ((a >> 2) & 0x33333333u) + (b & 0x33333333u) + ((b >> 2) & 0x33333333u);  // at most 8 each
    a = (a & 0x0f0f0f0fu) + ((a >> 4) & 0x0f0f0f0fu);
    a += a >> 8;
    return to_float((Mask)((a + (a >> 16)) & 0xffu));
}

void census_tile(const CensusTask& task, const SweepSource& source, const SweepTile& tile, V depth, V* scores) {
    constexpr int kColumns = kSweepTileWidth + 2 * kCensusHalfWidth;
    const int across = tile.x1 - tile.x0;
    V ring[kCensusRows][kColumns];
    Mask inside_ring[kCensusRows][kColumns];
    for (int y = tile.y0 - kCensusHalfHeight; y < tile.y1 + kCensusHalfHeight; ++y) {
        V* const samples = ring[(y + kCensusRows) % kCensusRows];
        Mask* const insides = inside_ring[(y + kCensusRows) % kCensusRows];
        warp_row(task, source, depth, y, tile.x0 - kCensusHalfWidth, across + 2 * kCensusHalfWidth,
                 [=](int c, V sample, Mask inside) {
                     samples[c] = sample;
                     insides[c] = inside;
                 });
        const int centre = y - kCensusHalfHeight;
        if (centre < tile.y0) continue;

        const V* rows[kCensusRows];
        for (int k = 0; k < kCensusRows; ++k)
            rows[k] = ring[(centre - kCensusHalfHeight + k + kCensusRows) % kCensusRows];
        const Mask* const inside = inside_ring[centre % kCensusRows] + kCensusHalfWidth;
        const CensusPixel* const pixels = task.pixels + static_cast<int64_t>(centre) * task.width + tile.x0;
        for (int c = 0; c < across; ++c) {
            const V middle = rows[kCensusHalfHeight][c + kCensusHalfWidth];
            Bits codes[2] = {};
#pragma GCC unroll 2
            for (int half = 0; half < 2; ++half)
#pragma GCC unroll 31
                for (int k = 0; k < kCensusBits; ++k) {
                    const int at = k + half * (kCensusBits + 1);  // without the pixel itself
                    const V near = rows[at / kCensusColumns][c + at % kCensusColumns];
                    codes[half] = with_bit(codes[half], near, middle, kCensusBit[k]);
                }
            const CensusPixel& pixel = pixels[c];
            const V differ =
                count_bits((codes[0] ^ pixel.codes[0]) & pixel.exist[0], (codes[1] ^ pixel.codes[1]) & pixel.exist[1]);
            const V score = pixel.best - pixel.step * differ;
            scores[(centre - tile.y0) * across + c] = inside[c] ? score : all(-2.0f);
        }
    }
}

void census(const CensusTask& task, int64_t begin, int64_t end, float* scratch) {
    sweep_tiles(task, begin, end, scratch, [&](const SweepSource& source, const SweepTile& tile, V depth, V* scores) {
        census_tile(task, source, tile, depth, scores);
    });
}

}  // namespace
}  // namespace sparse3d
