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

// load(p + kFloats) for p aligned to a vector. A load that straddles two cache lines takes the time of two, which is that of a
// shuffle: where many such loads stand together, some of them by this keep both parts of a processor busy.
template <int kFloats>
inline V load_across(const float* p) {
#if defined(__AVX512F__)
    constexpr int kFirst = kFloats / kLanes * kLanes;
    return (V)_mm512_alignr_epi32((__m512i)load(p + kFirst + kLanes), (__m512i)load(p + kFirst), kFloats - kFirst);
#else
    return load(p + kFloats);
#endif
}

// Writes whole cache lines that will not be read again soon, without fetching them first; p is aligned to a vector.
// Call finish_streaming before another thread is told.
inline void stream(float* p, V v) {
#if defined(__AVX512F__)
    _mm512_stream_ps(p, (__m512)v);
#elif defined(__AVX2__)
    _mm256_stream_ps(p, (__m256)v);
#else
    store(p, v);
#endif
}
inline void finish_streaming() {
#if defined(__AVX2__) || defined(__AVX512F__)
    _mm_sfence();
#endif
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

// c - a b in one step where the instruction set has it. Written out where it is the chain that everything waits for: compilers
// keep the product and the difference apart when the product is used elsewhere too.
inline V less_product(V c, V a, V b) {
#if defined(__AVX512F__)
    return (V)_mm512_fnmadd_ps((__m512)a, (__m512)b, (__m512)c);
#elif defined(__AVX2__)
    return (V)_mm256_fnmadd_ps((__m256)a, (__m256)b, (__m256)c);
#else
    return c - a * b;
#endif
}

// 1 / x for 1e-30 <= |x| <= 1e30, relative error at most 2.4e-7: an estimate and one step of Newton, since a division takes
// as long as a dozen other operations.
inline V inverse(V x) {
#if defined(__AVX512F__)
    const V guess = (V)_mm512_rcp14_ps((__m512)x);
    return guess * (2.0f - x * guess);
#elif defined(__AVX2__)
    const V guess = (V)_mm256_rcp_ps((__m256)x);
    return guess * (2.0f - x * guess);
#else
    return 1.0f / x;
#endif
}

// out[k] = 2^x[k] for -100 <= x <= 100, relative error at most 2.2e-7 (measured over [-8, 0], where it is used; Remez fit of
// degree 5 on [-1/2, 1/2]). Lanes outside hold anything. Step by step for all of them, so that none waits for another.
template <int kCount>
inline void exp2_of_each(const V x[kCount], V out[kCount]) {
    const float coefficients[] = {0.0013276346726f, 0.0096755381674f, 0.0555071383715f,
                                  0.2402212023735f, 0.6931469440460f, 1.0000001192093f};
    V f[kCount];
#if defined(__AVX512F__)
#pragma GCC unroll 8
    for (int k = 0; k < kCount; ++k) f[k] = (V)_mm512_reduce_ps((__m512)x[k], 0x08);  // x - round(x)
#else
    const V shifter = all(12582912.0f);  // 1.5 * 2^23: adding it leaves the nearest integer in the lowest bits
    V shifted[kCount];
#pragma GCC unroll 8
    for (int k = 0; k < kCount; ++k) {
        shifted[k] = x[k] + shifter;
        f[k] = x[k] - (shifted[k] - shifter);
    }
#endif
#pragma GCC unroll 8
    for (int k = 0; k < kCount; ++k) out[k] = coefficients[0] * f[k] + coefficients[1];
#pragma GCC unroll 8
    for (int degree = 2; degree < 6; ++degree)
#pragma GCC unroll 8
        for (int k = 0; k < kCount; ++k) out[k] = out[k] * f[k] + coefficients[degree];
#pragma GCC unroll 8
    for (int k = 0; k < kCount; ++k) {
#if defined(__AVX512F__)
        out[k] = (V)_mm512_scalef_ps((__m512)out[k], (__m512)(x[k] - f[k]));
#else
        out[k] = (V)((Bits)out[k] + ((Bits)shifted[k] << 23));
#endif
    }
}

// sqrt(x), relative error at most 3e-7; 0 below 1e-37 and for negative numbers.
inline V root_of(V x) {
#if defined(__AVX512F__) || defined(__AVX2__)
#if defined(__AVX512F__)
    const V guess = (V)_mm512_rsqrt14_ps((__m512)x);
#else
    const V guess = (V)_mm256_rsqrt_ps((__m256)x);
#endif
    const V root = x * guess;
    return select(x >= 1e-37f, root + 0.5f * root * (1.0f - root * guess));
#else
    return select(x >= 1e-37f, sqrt(x));
#endif
}

// out[l] = from[lanes[l]]
inline Mask choose_lanes(Mask from, Bits lanes) {
#if defined(__AVX512F__)
    return (Mask)_mm512_permutexvar_epi32((__m512i)lanes, (__m512i)from);
#elif defined(__AVX2__)
    return (Mask)_mm256_permutevar8x32_epi32((__m256i)from, (__m256i)lanes);
#else
    Mask out;
    for (int l = 0; l < kLanes; ++l) out[l] = from[lanes[l]];
    return out;
#endif
}

// Binary logarithm of positive normal numbers, absolute error at most 1.2e-7 max(1, |log2 x|).
inline V log2(V x) {
    const Bits bits = (Bits)x - 0x3f3504f3u;  // of sqrt(1/2): the mantissa below is in [sqrt(1/2), sqrt(2))
    const V exponent = __builtin_convertvector((Mask)bits >> 23, V);
    const V m = (V)((bits & 0x007fffffu) + 0x3f3504f3u);
    const V s = (m - 1.0f) / (m + 1.0f), ss = s * s;
    // 2 / ln(2) atanh(s)
    return exponent + s * (2.88539008f + ss * (0.961796694f + ss * (0.577078016f + ss * 0.412198583f)));
}

#if defined(__clang__) || __GNUC__ >= 12
#define SPARSE3D_SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define SPARSE3D_SHUFFLE(a, b, ...) __builtin_shuffle(a, b, Mask{__VA_ARGS__})
#endif

#if defined(__AVX2__) && !defined(__AVX512F__)
// For each set of 8 lanes, their numbers from the lowest byte on.
struct KeptLanes {
    uint64_t lanes[256];

    constexpr KeptLanes() : lanes() {
        for (int set = 0; set < 256; ++set) {
            int place = 0;
            for (uint64_t lane = 0; lane < 8; ++lane)
                if (set >> lane & 1) lanes[set] |= lane << (8 * place++);
        }
    }
};
constexpr KeptLanes kKeptLanes;
#endif

// Halves added to each other.
inline float sum_of_lanes(V v) {
    float lanes[kLanes];
    store(lanes, v);
    for (int half = kLanes / 2; half > 0; half /= 2)
        for (int l = 0; l < half; ++l) lanes[l] += lanes[l + half];
    return lanes[0];
}

// Writes the lanes of `values` where `keep` is set, one after another, and returns how many. The rest of a whole vector from
// `out` on is overwritten too.
inline int keep_lanes(Bits values, Mask keep, uint32_t* out) {
#if defined(__AVX512F__)
    const __mmask16 mask = _mm512_movepi32_mask((__m512i)keep);
    _mm512_storeu_si512(out, _mm512_maskz_compress_epi32(mask, (__m512i)values));
    return __builtin_popcount(mask);
#elif defined(__AVX2__)
    const int mask = _mm256_movemask_ps((__m256)keep);
    const __m256i lanes = _mm256_cvtepu8_epi32(_mm_cvtsi64_si128(static_cast<int64_t>(kKeptLanes.lanes[mask])));
    _mm256_storeu_si256((__m256i*)out, _mm256_permutevar8x32_epi32((__m256i)values, lanes));
    return __builtin_popcount(mask);
#else
    int kept = 0;
    for (int l = 0; l < kLanes; ++l) {
        out[kept] = values[l];
        kept -= keep[l];
    }
    return kept;
#endif
}

inline Bits load_bits(const uint32_t* p) {
    Bits v;
    __builtin_memcpy(&v, p, sizeof v);
    return v;
}
inline void store_bits(uint32_t* p, Bits v) { __builtin_memcpy(p, &v, sizeof v); }

}  // namespace
}  // namespace sparse3d
