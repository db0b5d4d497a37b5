// Standard deviations and opacities of Gaussians, a vector of them at a time.
#pragma once

#include "lanes_rows.h"
#include "layout.h"

namespace sparse3d {
namespace {

// e^x[k], held within 2^-100 and 2^100, beyond which no Gaussian is drawn otherwise; NaN stays NaN.
template <int kCount>
inline void exp_of_each(const V x[kCount], V out[kCount]) {
    V exponent[kCount];
    for (int k = 0; k < kCount; ++k) exponent[k] = min(max(kLog2E * x[k], all(-100.0f)), all(100.0f));
    exp2_of_each<kCount>(exponent, out);
    for (int k = 0; k < kCount; ++k) out[k] = x[k] == x[k] ? out[k] : x[k];
}

// Scales and opacities of kLanes Gaussians from row i on, as reference.rasterize takes them.
struct Shape {
    V scale[3], opacity;
    V rest;  // 1 - sigmoid(logit), where the Gaussians are before their activation

    Shape(const Gaussians& gaussians, int64_t i, int n) {
        load_rows3(gaussians.scales, i, n, scale);
        opacity = load_numbers(gaussians.opacities, i, n);
        rest = V{};
        if (!gaussians.before_activation) return;
        const V x[4] = {scale[0], scale[1], scale[2], -opacity};
        V powers[4];
        exp_of_each<4>(x, powers);
        for (int k = 0; k < 3; ++k) scale[k] = powers[k];
        const V sigmoid = 1.0f / (1.0f + powers[3]);
        opacity = sigmoid * gaussians.kept_factor;
        rest = powers[3] * sigmoid;
        if (gaussians.kept == nullptr) return;
        Mask kept = {};
        for (int l = 0; l < n; ++l) kept[l] = gaussians.kept[i + l] ? -1 : 0;
        opacity = select(kept, opacity);
    }
};

}  // namespace
}  // namespace sparse3d
