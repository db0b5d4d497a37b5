// Vectors as wide as the instruction set of the including file, by the vector extensions of GCC and Clang: arithmetic,
// comparisons and `mask ? a : b` work lane by lane.
#pragma once

#include <cstdint>

#if defined(__AVX2__) || defined(__AVX512F__)
#include <immintrin.h>
#endif

namespace sparse3d {
namespace {

#if defined(__AVX512F__)
constexpr int kLanes = 16;
#elif defined(__AVX2__)
constexpr int kLanes = 8;
#else
constexpr int kLanes = 4;
#endif

typedef float V __attribute__((vector_size(4 * kLanes)));
typedef int32_t Mask __attribute__((vector_size(4 * kLanes)));  // 0 or -1 in each lane
typedef uint32_t Bits __attribute__((vector_size(4 * kLanes)));

inline V all(float x) { return x - V{}; }  // minus: x + 0 is not x for -0, so compilers keep that addition
inline V load(const float* p) {
    V v;
    __builtin_memcpy(&v, p, sizeof v);
    return v;
}
inline void store(float* p, V v) { __builtin_memcpy(p, &v, sizeof v); }
// The first `count` lanes, all when there are more; `rest` in the others.
inline V load_some(const float* p, int count, float rest) {
    if (count >= kLanes) return load(p);
    V v = all(rest);
    for (int l = 0; l < count; ++l) v[l] = p[l];
    return v;
}
inline void store_some(float* p, V v, int count) {
    if (count >= kLanes) return store(p, v);
    for (int l = 0; l < count; ++l) p[l] = v[l];
}

#if defined(__AVX512F__)
inline V min(V a, V b) { return (V)_mm512_min_ps((__m512)a, (__m512)b); }
inline V max(V a, V b) { return (V)_mm512_max_ps((__m512)a, (__m512)b); }
inline V sqrt(V a) { return (V)_mm512_sqrt_ps((__m512)a); }
inline V floor(V a) { return (V)_mm512_roundscale_ps((__m512)a, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC); }
inline unsigned lane_bits(Mask m) { return _mm512_movepi32_mask((__m512i)m); }
inline bool any(Mask m) { return lane_bits(m) != 0; }
#elif defined(__AVX2__)
inline V min(V a, V b) { return (V)_mm256_min_ps((__m256)a, (__m256)b); }
inline V max(V a, V b) { return (V)_mm256_max_ps((__m256)a, (__m256)b); }
inline V sqrt(V a) { return (V)_mm256_sqrt_ps((__m256)a); }
inline V floor(V a) { return (V)_mm256_floor_ps((__m256)a); }
inline unsigned lane_bits(Mask m) { return static_cast<unsigned>(_mm256_movemask_ps((__m256)m)); }
inline bool any(Mask m) { return lane_bits(m) != 0; }
#else
inline V min(V a, V b) { return a < b ? a : b; }
inline V max(V a, V b) { return a > b ? a : b; }
inline V sqrt(V a) {
    for (int l = 0; l < kLanes; ++l) a[l] = __builtin_sqrtf(a[l]);
    return a;
}
inline V floor(V a) {  // of numbers that fit 32 bits
    const V whole = __builtin_convertvector(__builtin_convertvector(a, Mask), V);
    return whole + __builtin_convertvector(whole > a, V);
}
inline unsigned lane_bits(Mask m) { return (m[0] & 1) | (m[1] & 2) | (m[2] & 4) | (m[3] & 8); }
inline bool any(Mask m) { return (m[0] | m[1] | m[2] | m[3]) != 0; }
#endif

// The same of one number.
inline float min(float a, float b) { return a < b ? a : b; }
inline float max(float a, float b) { return a > b ? a : b; }
inline float sqrt(float a) { return __builtin_sqrtf(a); }
inline float floor(float a) { return __builtin_floorf(a); }

inline V select(Mask m, V a) { return m ? a : V{}; }

// 2^x for -100 <= x <= 100, relative error at most 2.2e-7 (measured over [-8, 0], where it is used; Remez fit of degree 5
// on [-1/2, 1/2]). Lanes outside hold anything.
inline V exp2(V x) {
#if defined(__AVX512F__)
    const V f = (V)_mm512_reduce_ps((__m512)x, 0x08);  // x - round(x)
#else
    const V shifter = all(12582912.0f);  // 1.5 * 2^23: adding it leaves the nearest integer in the lowest bits
    const V shifted = x + shifter;
    const V f = x - (shifted - shifter);
#endif
    V p = all(0.0013276346726f);
    p = p * f + 0.0096755381674f;
    p = p * f + 0.0555071383715f;
    p = p * f + 0.2402212023735f;
    p = p * f + 0.6931469440460f;
    p = p * f + 1.0000001192093f;
#if defined(__AVX512F__)
    return (V)_mm512_scalef_ps((__m512)p, (__m512)(x - f));
#else
    return (V)((Bits)p + ((Bits)shifted << 23));
#endif
}

#if defined(__clang__) || __GNUC__ >= 12
#define SPARSE3D_SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define SPARSE3D_SHUFFLE(a, b, ...) __builtin_shuffle(a, b, Mask{__VA_ARGS__})
#endif

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

}  // namespace
}  // namespace sparse3d
