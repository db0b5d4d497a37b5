// Adam of the rows that are drawn: adam.py, selective_adam.
#pragma once

#include "layout_adam.h"
#include "simd.h"

namespace sparse3d {
namespace {

struct AdamVector {
    V value, mean, square;

    AdamVector(const AdamTask& task, V rates, V gradient, const float* values, const float* means, const float* squares, int ahead) {
        // each number is read once a step, from three arrays far apart: asked for earlier than a processor would by itself
        __builtin_prefetch(values + ahead, 1);
        __builtin_prefetch(means + ahead, 1);
        __builtin_prefetch(squares + ahead, 1);
        mean = task.kept1 * load(means) + task.fresh1 * gradient;
        square = task.kept2 * load(squares) + task.fresh2 * gradient * gradient;
        const V root = root_of(square) * task.root_scale;
        value = load(values) - rates * mean * inverse(root + task.eps);
    }
};

// kLanes rows in arrays that begin at `at` in the tensor's, or elsewhere.
inline void adam_group(const AdamTask& task, const AdamTensor& tensor, Mask drawn, const float* gradient, float* values,
                       float* means, float* squares) {
    const int ahead = kLanes * tensor.floats;
    if (tensor.floats % kLanes == 0) {  // no vector has numbers of two rows
        for (unsigned left = lane_bits(drawn); left != 0; left &= left - 1) {
            const int first = __builtin_ctz(left) * tensor.floats;
            for (int j = 0; j < tensor.floats; j += kLanes) {
                const int at = first + j;
                const AdamVector v(task, load(tensor.rates + j), load(gradient + at), values + at, means + at, squares + at, ahead);
                store(values + at, v.value);
                store(means + at, v.mean);
                store(squares + at, v.square);
            }
        }
        return;
    }
    for (int at = 0; at < tensor.floats * kLanes; at += kLanes) {
        const Mask lanes = choose_lanes(drawn, load_bits(tensor.rows + at));
        if (!any(lanes)) continue;
        const AdamVector v(task, load(tensor.rates + at), load(gradient + at), values + at, means + at, squares + at, ahead);
        store(values + at, lanes ? v.value : load(values + at));
        store(means + at, lanes ? v.mean : load(means + at));
        store(squares + at, lanes ? v.square : load(squares + at));
    }
}

// Moves n <= kLanes rows from row i on against `gradient`, which is that of kLanes rows.
inline void adam_rows(const AdamTask& task, const AdamTensor& tensor, int64_t i, int n, Mask drawn, const float* gradient) {
    float* const arrays[3] = {tensor.values + i * tensor.floats, tensor.mean + i * tensor.floats, tensor.square + i * tensor.floats};
    if (n == kLanes) return adam_group(task, tensor, drawn, gradient, arrays[0], arrays[1], arrays[2]);
    // the last rows, in copies as long as whole vectors
    float copies[3][kMostRowFloats * kLanes] = {};
    const int64_t bytes = n * tensor.floats * static_cast<int64_t>(sizeof(float));
    for (int k = 0; k < 3; ++k) __builtin_memcpy(copies[k], arrays[k], bytes);
    adam_group(task, tensor, drawn, gradient, copies[0], copies[1], copies[2]);
    for (int k = 0; k < 3; ++k) __builtin_memcpy(arrays[k], copies[k], bytes);
}

}  // namespace
}  // namespace sparse3d
