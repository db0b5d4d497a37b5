// Data of the optimizer's stage; plain structs, as layout.h.
#pragma once

#include <cstdint>

namespace sparse3d {

// The parameters of N Gaussians, as Gaussians in layout.h has them before their activation.
enum Parameter { kMeans, kQuats, kLogScales, kLogitOpacities, kCoefficients, kParameters };

constexpr int kMostRowFloats = 48;  // coefficients of degree 3
constexpr int kRowGroup = 16;       // rows that are whole vectors for every instruction set, whatever their length

// One of the parameters, in rows of `floats` numbers each. kRowGroup rows have the same learning rates, and the same places
// of rows, as any other: `rates` and `rows` have them for each number.
struct AdamTensor {
    float *values, *mean, *square;
    int floats;  // 1 to kMostRowFloats
    float rates[kRowGroup * kMostRowFloats];  // with the first bias correction in them
    uint32_t rows[kRowGroup * kMostRowFloats];
};

struct AdamTask {
    AdamTensor tensors[kParameters];
    float kept1, fresh1, kept2, fresh2;  // beta and 1 - beta, which float32 would not get from it
    float root_scale;  // 1 / sqrt(1 - beta2^step)
    float eps;
    const float* opacity_decay;  // for each Gaussian, what its opacity is multiplied by in a step that it takes part in; may be null
};

}  // namespace sparse3d
