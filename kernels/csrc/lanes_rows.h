// Rows of floats in memory to one vector for each component, and back.
#pragma once

#include "simd.h"

namespace sparse3d {
namespace {

// Component l of rows[k] becomes component k of rows[l]: pairs of rows exchange blocks of 1, 2, 4 and 8 lanes.
inline void transpose(V rows[kLanes]) {
#if defined(__AVX512F__)
    V a[16];
#pragma GCC unroll 8
    for (int k = 0; k < 16; k += 2) {
        a[k] = (V)_mm512_unpacklo_ps((__m512)rows[k], (__m512)rows[k + 1]);
        a[k + 1] = (V)_mm512_unpackhi_ps((__m512)rows[k], (__m512)rows[k + 1]);
    }
#pragma GCC unroll 4
    for (int k = 0; k < 16; k += 4) {  // rows k..k+3 hold columns 0, 1, 2, 3 of each 128-bit block
        rows[k] = (V)_mm512_unpacklo_pd((__m512d)a[k], (__m512d)a[k + 2]);
        rows[k + 1] = (V)_mm512_unpackhi_pd((__m512d)a[k], (__m512d)a[k + 2]);
        rows[k + 2] = (V)_mm512_unpacklo_pd((__m512d)a[k + 1], (__m512d)a[k + 3]);
        rows[k + 3] = (V)_mm512_unpackhi_pd((__m512d)a[k + 1], (__m512d)a[k + 3]);
    }
#pragma GCC unroll 4
    for (int k = 0; k < 4; ++k) {
        a[k] = (V)_mm512_shuffle_f32x4((__m512)rows[k], (__m512)rows[k + 4], 0x88);  // blocks 0 and 2 of both
        a[k + 4] = (V)_mm512_shuffle_f32x4((__m512)rows[k], (__m512)rows[k + 4], 0xdd);
        a[k + 8] = (V)_mm512_shuffle_f32x4((__m512)rows[k + 8], (__m512)rows[k + 12], 0x88);
        a[k + 12] = (V)_mm512_shuffle_f32x4((__m512)rows[k + 8], (__m512)rows[k + 12], 0xdd);
    }
#pragma GCC unroll 4
    for (int k = 0; k < 4; ++k) {
        rows[k] = (V)_mm512_shuffle_f32x4((__m512)a[k], (__m512)a[k + 8], 0x88);
        rows[k + 4] = (V)_mm512_shuffle_f32x4((__m512)a[k + 4], (__m512)a[k + 12], 0x88);
        rows[k + 8] = (V)_mm512_shuffle_f32x4((__m512)a[k], (__m512)a[k + 8], 0xdd);
        rows[k + 12] = (V)_mm512_shuffle_f32x4((__m512)a[k + 4], (__m512)a[k + 12], 0xdd);
    }
#elif defined(__AVX2__)
    V a[8];
#pragma GCC unroll 4
    for (int k = 0; k < 8; k += 2) {
        a[k] = (V)_mm256_unpacklo_ps((__m256)rows[k], (__m256)rows[k + 1]);
        a[k + 1] = (V)_mm256_unpackhi_ps((__m256)rows[k], (__m256)rows[k + 1]);
    }
#pragma GCC unroll 2
    for (int k = 0; k < 8; k += 4) {
        rows[k] = (V)_mm256_unpacklo_pd((__m256d)a[k], (__m256d)a[k + 2]);
        rows[k + 1] = (V)_mm256_unpackhi_pd((__m256d)a[k], (__m256d)a[k + 2]);
        rows[k + 2] = (V)_mm256_unpacklo_pd((__m256d)a[k + 1], (__m256d)a[k + 3]);
        rows[k + 3] = (V)_mm256_unpackhi_pd((__m256d)a[k + 1], (__m256d)a[k + 3]);
    }
#pragma GCC unroll 4
    for (int k = 0; k < 4; ++k) {
        const V low = rows[k], high = rows[k + 4];
        rows[k] = (V)_mm256_permute2f128_ps((__m256)low, (__m256)high, 0x20);
        rows[k + 4] = (V)_mm256_permute2f128_ps((__m256)low, (__m256)high, 0x31);
    }
#else
    const V a = SPARSE3D_SHUFFLE(rows[0], rows[1], 0, 4, 1, 5), b = SPARSE3D_SHUFFLE(rows[0], rows[1], 2, 6, 3, 7);
    const V c = SPARSE3D_SHUFFLE(rows[2], rows[3], 0, 4, 1, 5), d = SPARSE3D_SHUFFLE(rows[2], rows[3], 2, 6, 3, 7);
    rows[0] = SPARSE3D_SHUFFLE(a, c, 0, 1, 4, 5);
    rows[1] = SPARSE3D_SHUFFLE(a, c, 2, 3, 6, 7);
    rows[2] = SPARSE3D_SHUFFLE(b, d, 0, 1, 4, 5);
    rows[3] = SPARSE3D_SHUFFLE(b, d, 2, 3, 6, 7);
#endif
}

// out[k] = sum of the lanes of rows[k], for 16 rows, by folding pairs of rows into one again and again.
inline void sum_lanes(const V rows[16], float* out) {
#if defined(__AVX512F__)
    V a[8], b[4], c[2];
#pragma GCC unroll 8
    for (int k = 0; k < 8; ++k)  // lanes 0-7: eight partial sums of row k, 8-15: of row k + 8
        a[k] = SPARSE3D_SHUFFLE(rows[k], rows[k + 8], 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23) +
               SPARSE3D_SHUFFLE(rows[k], rows[k + 8], 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31);
#pragma GCC unroll 4
    for (int k = 0; k < 4; ++k)  // four lanes each: rows k, k + 4, k + 8, k + 12
        b[k] = SPARSE3D_SHUFFLE(a[k], a[k + 4], 0, 1, 2, 3, 16, 17, 18, 19, 8, 9, 10, 11, 24, 25, 26, 27) +
               SPARSE3D_SHUFFLE(a[k], a[k + 4], 4, 5, 6, 7, 20, 21, 22, 23, 12, 13, 14, 15, 28, 29, 30, 31);
#pragma GCC unroll 2
    for (int k = 0; k < 2; ++k)  // two lanes each: rows k, k + 2, ..., k + 14
        c[k] = SPARSE3D_SHUFFLE(b[k], b[k + 2], 0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29) +
               SPARSE3D_SHUFFLE(b[k], b[k + 2], 2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31);
    store(out, SPARSE3D_SHUFFLE(c[0], c[1], 0, 16, 2, 18, 4, 20, 6, 22, 8, 24, 10, 26, 12, 28, 14, 30) +
                   SPARSE3D_SHUFFLE(c[0], c[1], 1, 17, 3, 19, 5, 21, 7, 23, 9, 25, 11, 27, 13, 29, 15, 31));
#elif defined(__AVX2__)
    for (int half = 0; half < 16; half += 8) {
        const V* r = rows + half;
        V a[4], b[2];
#pragma GCC unroll 4
        for (int k = 0; k < 4; ++k)
            a[k] = SPARSE3D_SHUFFLE(r[k], r[k + 4], 0, 1, 2, 3, 8, 9, 10, 11) +
                   SPARSE3D_SHUFFLE(r[k], r[k + 4], 4, 5, 6, 7, 12, 13, 14, 15);
#pragma GCC unroll 2
        for (int k = 0; k < 2; ++k)
            b[k] = SPARSE3D_SHUFFLE(a[k], a[k + 2], 0, 1, 8, 9, 4, 5, 12, 13) +
                   SPARSE3D_SHUFFLE(a[k], a[k + 2], 2, 3, 10, 11, 6, 7, 14, 15);
        store(out + half, SPARSE3D_SHUFFLE(b[0], b[1], 0, 8, 2, 10, 4, 12, 6, 14) +
                              SPARSE3D_SHUFFLE(b[0], b[1], 1, 9, 3, 11, 5, 13, 7, 15));
    }
#else
    for (int k = 0; k < 16; k += 4) {
        const V a = SPARSE3D_SHUFFLE(rows[k], rows[k + 2], 0, 1, 4, 5) + SPARSE3D_SHUFFLE(rows[k], rows[k + 2], 2, 3, 6, 7);
        const V b = SPARSE3D_SHUFFLE(rows[k + 1], rows[k + 3], 0, 1, 4, 5) +
                    SPARSE3D_SHUFFLE(rows[k + 1], rows[k + 3], 2, 3, 6, 7);
        store(out + k, SPARSE3D_SHUFFLE(a, b, 0, 4, 2, 6) + SPARSE3D_SHUFFLE(a, b, 1, 5, 3, 7));
    }
#endif
}

// Within each block of four lanes: lane k of rows[l] becomes lane l of rows[k].
inline void transpose_blocks(V rows[4]) {
#if defined(__AVX512F__)
    const __m512 a = _mm512_unpacklo_ps((__m512)rows[0], (__m512)rows[1]), b = _mm512_unpackhi_ps((__m512)rows[0], (__m512)rows[1]);
    const __m512 c = _mm512_unpacklo_ps((__m512)rows[2], (__m512)rows[3]), d = _mm512_unpackhi_ps((__m512)rows[2], (__m512)rows[3]);
    rows[0] = (V)_mm512_unpacklo_pd((__m512d)a, (__m512d)c);
    rows[1] = (V)_mm512_unpackhi_pd((__m512d)a, (__m512d)c);
    rows[2] = (V)_mm512_unpacklo_pd((__m512d)b, (__m512d)d);
    rows[3] = (V)_mm512_unpackhi_pd((__m512d)b, (__m512d)d);
#elif defined(__AVX2__)
    const __m256 a = _mm256_unpacklo_ps((__m256)rows[0], (__m256)rows[1]), b = _mm256_unpackhi_ps((__m256)rows[0], (__m256)rows[1]);
    const __m256 c = _mm256_unpacklo_ps((__m256)rows[2], (__m256)rows[3]), d = _mm256_unpackhi_ps((__m256)rows[2], (__m256)rows[3]);
    rows[0] = (V)_mm256_unpacklo_pd((__m256d)a, (__m256d)c);
    rows[1] = (V)_mm256_unpackhi_pd((__m256d)a, (__m256d)c);
    rows[2] = (V)_mm256_unpacklo_pd((__m256d)b, (__m256d)d);
    rows[3] = (V)_mm256_unpackhi_pd((__m256d)b, (__m256d)d);
#else
    transpose(rows);
#endif
}

// Block b of four lanes to p + b * stride.
inline void store_blocks(V v, float* p, int stride) {
#if defined(__AVX512F__)
    _mm_storeu_ps(p, _mm512_castps512_ps128((__m512)v));
    _mm_storeu_ps(p + stride, _mm512_extractf32x4_ps((__m512)v, 1));
    _mm_storeu_ps(p + 2 * stride, _mm512_extractf32x4_ps((__m512)v, 2));
    _mm_storeu_ps(p + 3 * stride, _mm512_extractf32x4_ps((__m512)v, 3));
#elif defined(__AVX2__)
    _mm_storeu_ps(p, _mm256_castps256_ps128((__m256)v));
    _mm_storeu_ps(p + stride, _mm256_extractf128_ps((__m256)v, 1));
#else
    (void)stride;
    store(p, v);
#endif
}

// columns[k] = component k of kLanes rows of 16 floats, `stride` floats apart; and back.
inline void load_columns(const float* rows, int64_t stride, V columns[16]) {
    for (int k = 0; k < 16; k += kLanes) {
        for (int l = 0; l < kLanes; ++l) columns[k + l] = load(rows + l * stride + k);
        transpose(columns + k);
    }
}

template <bool kStream = false>
inline void store_columns(const V columns[16], float* rows, int64_t stride) {
    for (int k = 0; k < 16; k += kLanes) {
        V block[kLanes];
        for (int l = 0; l < kLanes; ++l) block[l] = columns[k + l];
        transpose(block);
        for (int l = 0; l < kLanes; ++l) (kStream ? stream : store)(rows + l * stride + k, block[l]);
    }
}

// Index sequences for shuffles of rows of `kStride` floats one after another; `Lane` stands for the lanes of one vector.
template <int... Lane>
struct Lanes {};
template <int kCount, int... Lane>
struct CountLanes : CountLanes<kCount - 1, kCount - 1, Lane...> {};
template <int... Lane>
struct CountLanes<0, Lane...> {
    typedef Lanes<Lane...> type;
};
typedef CountLanes<kLanes>::type AllLanes;

// Lanes of the vectors `from` and `from + 1` of the rows that are component `k`; anything in lanes that lie elsewhere.
constexpr int row_lane(int lane, int stride, int k, int from) {
    const int at = lane * stride + k - from * kLanes;
    return at >= 0 && at < 2 * kLanes ? at : 0;
}
// Lanes of (what row_lane found of the first two vectors, what comes from `second`)
constexpr int pick_lane(int lane, int stride, int k, int second) {
    return lane * stride + k < second * kLanes ? lane : kLanes + lane;
}
constexpr int third_lane(int lane, int k) {
    return lane * 3 + k < 2 * kLanes ? lane : lane * 3 + k - kLanes;
}

template <int k, int... Lane>
inline V column3(const V rows[3], Lanes<Lane...>) {
    const V both = SPARSE3D_SHUFFLE(rows[0], rows[1], row_lane(Lane, 3, k, 0)...);
    return SPARSE3D_SHUFFLE(both, rows[2], third_lane(Lane, k)...);
}

template <int k, int... Lane>
inline V column4(const V rows[4], Lanes<Lane...>) {
    const V low = SPARSE3D_SHUFFLE(rows[0], rows[1], row_lane(Lane, 4, k, 0)...);
    const V high = SPARSE3D_SHUFFLE(rows[2], rows[3], row_lane(Lane, 4, k, 2)...);
    return SPARSE3D_SHUFFLE(low, high, pick_lane(Lane, 4, k, 2)...);
}

// Vector `j` of the rows that three or four columns make up.
constexpr int from_low(int lane, int stride, int j, int first) {
    const int at = j * kLanes + lane, k = at % stride - first;
    return k == 0 || k == 1 ? k * kLanes + at / stride : 0;
}
constexpr int from_third(int lane, int j) {
    const int at = j * kLanes + lane;
    return at % 3 < 2 ? lane : kLanes + at / 3;
}
constexpr int from_half(int lane, int j) { return (j * kLanes + lane) % 4 < 2 ? lane : kLanes + lane; }

template <int j, int... Lane>
inline V rows3(const V columns[3], Lanes<Lane...>) {
    const V both = SPARSE3D_SHUFFLE(columns[0], columns[1], from_low(Lane, 3, j, 0)...);
    return SPARSE3D_SHUFFLE(both, columns[2], from_third(Lane, j)...);
}

template <int j, int... Lane>
inline V rows4(const V columns[4], Lanes<Lane...>) {
    const V low = SPARSE3D_SHUFFLE(columns[0], columns[1], from_low(Lane, 4, j, 0)...);
    const V high = SPARSE3D_SHUFFLE(columns[2], columns[3], from_low(Lane, 4, j, 2)...);
    return SPARSE3D_SHUFFLE(low, high, from_half(Lane, j)...);
}

// columns[k] = component k of kLanes rows of 3 or 4 floats, one after another; and back.
inline void load_columns3(const float* p, V columns[3]) {
    const V rows[3] = {load(p), load(p + kLanes), load(p + 2 * kLanes)};
    columns[0] = column3<0>(rows, AllLanes());
    columns[1] = column3<1>(rows, AllLanes());
    columns[2] = column3<2>(rows, AllLanes());
}

inline void load_columns4(const float* p, V columns[4]) {
    const V rows[4] = {load(p), load(p + kLanes), load(p + 2 * kLanes), load(p + 3 * kLanes)};
    columns[0] = column4<0>(rows, AllLanes());
    columns[1] = column4<1>(rows, AllLanes());
    columns[2] = column4<2>(rows, AllLanes());
    columns[3] = column4<3>(rows, AllLanes());
}

inline void store_columns3(const V columns[3], float* p) {
    store(p, rows3<0>(columns, AllLanes()));
    store(p + kLanes, rows3<1>(columns, AllLanes()));
    store(p + 2 * kLanes, rows3<2>(columns, AllLanes()));
}

inline void store_columns4(const V columns[4], float* p) {
    store(p, rows4<0>(columns, AllLanes()));
    store(p + kLanes, rows4<1>(columns, AllLanes()));
    store(p + 2 * kLanes, rows4<2>(columns, AllLanes()));
    store(p + 3 * kLanes, rows4<3>(columns, AllLanes()));
}

// `n` rows of kFloats floats from row i on, in an array as long as whole vectors; lanes past the end repeat the last row.
template <int kFloats>
struct PaddedRows {
    float floats[kLanes * kFloats];

    PaddedRows(const float* rows, int n) {
        for (int l = 0; l < kLanes; ++l)
            __builtin_memcpy(floats + l * kFloats, rows + (l < n ? l : n - 1) * kFloats, kFloats * sizeof(float));
    }
};

inline V load_numbers(const float* numbers, int64_t i, int n) {
    return load(n == kLanes ? numbers + i : PaddedRows<1>(numbers + i, n).floats);
}
inline void load_rows3(const float* rows, int64_t i, int n, V columns[3]) {
    load_columns3(n == kLanes ? rows + 3 * i : PaddedRows<3>(rows + 3 * i, n).floats, columns);
}
inline void load_rows4(const float* rows, int64_t i, int n, V columns[4]) {
    load_columns4(n == kLanes ? rows + 4 * i : PaddedRows<4>(rows + 4 * i, n).floats, columns);
}

}  // namespace
}  // namespace sparse3d
