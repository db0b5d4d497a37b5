// Data of the optimizer's stage; plain structs, as layout.h.
#pragma once

#include <cstdint>

namespace sparse3d {

constexpr int kMostRowFloats = 64;
constexpr int kAdamRows = 1024;  // in one unit of work
constexpr int kAdamAhead = 512;  // numbers

// Rows of `floats` numbers each.
struct AdamTask {
    float* values;
    const float* gradient;
    float *mean, *square;
    const float* rates;    // (floats), with the first bias correction in them
    const uint8_t* drawn;  // (rows), 0: left as it is
    int floats;            // 1 to kMostRowFloats
    float kept1, fresh1, kept2, fresh2;  // beta and 1 - beta, which float32 would not get from it
    float root_scale;  // 1 / sqrt(1 - beta2^step)
    float eps;
};

}  // namespace sparse3d
