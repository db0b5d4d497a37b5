// Adam of the rows that are drawn: adam.py, selective_adam.
#pragma once

#include "layout_adam.h"
#include "simd.h"

namespace sparse3d {
namespace {

// kLanes rows are as many vectors as a row has numbers; which row and rate a lane of each belongs to.
struct AdamPattern {
    V rates[kMostRowFloats];
    Bits rows[kMostRowFloats];

    explicit AdamPattern(const AdamTask& task) {
        for (int j = 0; j < task.floats; ++j) {
            for (int l = 0; l < kLanes; ++l) {
                rates[j][l] = task.rates[(j * kLanes + l) % task.floats];
                rows[j][l] = static_cast<uint32_t>((j * kLanes + l) / task.floats);
            }
        }
    }
};

inline void adam_vector(const AdamTask& task, V rates, Mask drawn, float* values, const float* gradient, float* mean,
                        float* square) {
    // each is read once a step and far from the others: asked for earlier than the processor would by itself
    __builtin_prefetch(gradient + kAdamAhead);
    __builtin_prefetch(mean + kAdamAhead, 1);
    __builtin_prefetch(square + kAdamAhead, 1);
    __builtin_prefetch(values + kAdamAhead, 1);
    const V g = load(gradient), old_mean = load(mean), old_square = load(square), old_value = load(values);
    const V m = task.kept1 * old_mean + task.fresh1 * g;
    const V s = task.kept2 * old_square + task.fresh2 * g * g;
    const V root = root_of(s) * task.root_scale;
    store(values, drawn ? old_value - rates * m * inverse(root + task.eps) : old_value);
    store(mean, drawn ? m : old_mean);
    store(square, drawn ? s : old_square);
}

// Rows [begin, begin + kLanes) in arrays that start at `first`.
inline void adam_rows(const AdamTask& task, const AdamPattern& pattern, const uint8_t* drawn, int64_t first, float* values,
                      const float* gradient, float* mean, float* square) {
    Mask rows;
    for (int l = 0; l < kLanes; ++l) rows[l] = drawn[l] ? -1 : 0;
    if (!any(rows)) return;
    for (int j = 0; j < task.floats; ++j) {
        const Mask lanes = choose_lanes(rows, pattern.rows[j]);
        const int64_t at = first + j * kLanes;
        if (any(lanes)) adam_vector(task, pattern.rates[j], lanes, values + at, gradient + at, mean + at, square + at);
    }
}

// Rows [begin, end).
void adam(const AdamTask& task, int64_t begin, int64_t end) {
    const AdamPattern pattern(task);
    int64_t row = begin;
    for (; row + kLanes <= end; row += kLanes)
        adam_rows(task, pattern, task.drawn + row, row * task.floats, task.values, task.gradient, task.mean, task.square);
    if (row == end) return;
    // the last rows, in copies as long as whole vectors
    float copies[4][kMostRowFloats * kLanes] = {};
    uint8_t drawn[kLanes] = {};
    const int64_t at = row * task.floats;
    const int64_t bytes = (end - row) * task.floats * static_cast<int64_t>(sizeof(float));
    __builtin_memcpy(copies[0], task.values + at, bytes);
    __builtin_memcpy(copies[1], task.gradient + at, bytes);
    __builtin_memcpy(copies[2], task.mean + at, bytes);
    __builtin_memcpy(copies[3], task.square + at, bytes);
    __builtin_memcpy(drawn, task.drawn + row, end - row);
    adam_rows(task, pattern, drawn, 0, copies[0], copies[1], copies[2], copies[3]);
    __builtin_memcpy(task.values + at, copies[0], bytes);
    __builtin_memcpy(task.mean + at, copies[2], bytes);
    __builtin_memcpy(task.square + at, copies[3], bytes);
}

}  // namespace
}  // namespace sparse3d
