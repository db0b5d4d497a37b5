// The end of a training step, from the gradient sums of splats to the new Gaussians: what lanes_project_backward.h would write
// and Adam would read again stays in the cache.
#pragma once

#include "lanes_adam.h"
#include "lanes_gradients.h"

namespace sparse3d {
namespace {

// logit(factor sigmoid(x)) of those drawn, at least the logit of 1e-7: with e = exp(-x) it is log(factor / (1 - factor + e)).
inline void decay_opacities(const float* factors, Mask drawn, int64_t i, int n, float* logits) {
    const V old = load_numbers(logits, i, n), factor = load_numbers(factors, i, n);
    const V x[1] = {-old};
    V e[1];
    exp_of_each<1>(x, e);
    const V decayed = max(kLn2 * log2(factor / (1.0f - factor + e[0])), all(-16.118095f));
    float numbers[kLanes];
    store(numbers, drawn ? decayed : old);
    __builtin_memcpy(logits + i, numbers, n * sizeof(float));
}

// kLanes rows of `floats` numbers one after another, at most kMostFloats.
inline void store_rows(const V columns[kMostFloats], int floats, float* rows) {
    alignas(64) float wide[kLanes][kMostFloats];
    float* const out = floats == kMostFloats ? rows : wide[0];
    for (int k = 0; k < floats; k += 16) store_columns(columns + k, out + k, kMostFloats);
    for (int l = 0; out != rows && l < kLanes; ++l) __builtin_memcpy(rows + l * floats, wide[l], floats * sizeof(float));
}

// Gaussians [begin, end): Adam of those that have a gradient, and the decay of their opacities.
void update(const Gaussians& all_gaussians, const Camera& camera, int64_t begin, int64_t end, const SlotTable& table,
            const AdamTask& task) {
    const AdamTensor* const tensors = task.tensors;
    Gaussians gaussians = all_gaussians;
    gaussians.count = end;  // what is behind is another worker's to move, and is not to be read even where it is of no account
    for (int64_t i = begin; i < end; i += kLanes) {
        const int n = end - i < kLanes ? static_cast<int>(end - i) : kLanes;
        Mask in_slots;
        V sums[kSlotSize];
        if (!sum_slots(i, n, table, in_slots, sums)) continue;
        const Projected projected(gaussians, camera, i, n);
        Gradients gradients(gaussians, camera, projected, i, n, in_slots, sums);
        const V by_logit = select(in_slots, sums[kV] * projected.shape.rest);
        const Mask drawn = by_logit != 0.0f;
        if (!any(drawn)) continue;
        for (int k = 0; k < 3; ++k) gradients.scale[k] *= projected.shape.scale[k];

        alignas(64) float rows[kMostFloats * kLanes];
        store_columns3(gradients.mean, rows);
        adam_rows(task, tensors[kMeans], i, n, drawn, rows);
        store_columns4(gradients.quat, rows);
        adam_rows(task, tensors[kQuats], i, n, drawn, rows);
        store_columns3(gradients.scale, rows);
        adam_rows(task, tensors[kLogScales], i, n, drawn, rows);
        store(rows, by_logit);
        adam_rows(task, tensors[kLogitOpacities], i, n, drawn, rows);
        if (task.opacity_decay) decay_opacities(task.opacity_decay, drawn, i, n, tensors[kLogitOpacities].values);
        store_rows(gradients.colors, tensors[kCoefficients].floats, rows);
        adam_rows(task, tensors[kCoefficients], i, n, drawn, rows);
    }
}

}  // namespace
}  // namespace sparse3d
