// Colours of Gaussians and their gradient: reference.py, sh_to_rgb.
#pragma once

#include "lanes_projected.h"
#include "lanes_sh.h"

namespace sparse3d {
namespace {

constexpr int kMostFloats = 3 * kMaxSh;  // of a Gaussian's coefficients

// The coefficients of kLanes Gaussians: number 3 k + channel in columns[3 k + channel].
inline void load_coefficients(const Gaussians& gaussians, int64_t i, int n, int floats, V columns[kMostFloats]) {
    const int64_t stride = gaussians.color_stride;
    const float* rows = gaussians.colors + i * stride;
    const int reach = (floats + 15) / 16 * 16;
    if (n == kLanes && (i + kLanes - 1) * stride + reach <= gaussians.count * stride) {
        const float* next = rows + kLanes * stride;  // in an order that processors do not guess
        for (int64_t k = 0; k < kLanes * stride; k += 16) __builtin_prefetch(next + k);
        for (int k = 0; k < reach; k += 16) load_columns(rows + k, stride, columns + k);
        return;
    }
    float padded[kLanes][kMostFloats] = {};
    for (int l = 0; l < n; ++l) __builtin_memcpy(padded[l], rows + l * stride, floats * sizeof(float));
    for (int k = 0; k < reach; k += 16) load_columns(padded[0] + k, kMostFloats, columns + k);
}

// 1/2 + sum_k c_k Y_k of one channel
inline V sh_sum(int count, const V* basis, const V* columns) {
    V sum = all(0.5f);
    for (int k = 0; k < count; ++k) sum += basis[k] * columns[3 * k];
    return sum;
}

// max(0, sum)
inline void colors_of(const Gaussians& gaussians, const Camera& camera, const V world[3], int64_t i, int n, V rgb[3]) {
    V columns[kMostFloats];
    if (gaussians.sh_degree < 0) {
        load_rows3(gaussians.colors, i, n, rgb);
        return;
    }
    const Direction direction(camera, world);
    V basis[kMaxSh];
    sh_basis(gaussians.sh_degree, direction.unit[0], direction.unit[1], direction.unit[2], basis);
    const int count = (gaussians.sh_degree + 1) * (gaussians.sh_degree + 1);
    load_coefficients(gaussians, i, n, 3 * count, columns);
    for (int channel = 0; channel < 3; ++channel) rgb[channel] = max(sh_sum(count, basis, columns + channel), V{});
}

// Gradient of the colours: that of number 3 k + channel of `colors` in columns[3 k + channel], 0 for coefficients beyond the
// degree, and for SH that of the vector from the camera to the Gaussian. `grad_colour` is 0 where nothing is drawn.
inline void color_backward(const Gaussians& gaussians, const Camera& camera, const V world[3], int64_t i, int n, Mask drawn,
                           const V grad_colour[3], V columns[kMostFloats], V grad_vector[3]) {
    for (int k = 0; k < 3; ++k) {
        grad_vector[k] = V{};
        columns[k] = grad_colour[k];
    }
    if (gaussians.sh_degree < 0) return;
    const Direction direction(camera, world);
    const V* unit = direction.unit;
    const int degree = gaussians.sh_degree, count = (degree + 1) * (degree + 1);
    V basis[kMaxSh], basis_grad[kMaxSh];
    sh_basis(degree, unit[0], unit[1], unit[2], basis);
    load_coefficients(gaussians, i, n, 3 * count, columns);
    V grad_rgb[3];  // max(0, .) lets it through where the colour is positive
    for (int channel = 0; channel < 3; ++channel)
        grad_rgb[channel] = select(sh_sum(count, basis, columns + channel) > 0.0f, grad_colour[channel]);
    for (int k = 0; k < count; ++k)
        basis_grad[k] = grad_rgb[0] * columns[3 * k] + grad_rgb[1] * columns[3 * k + 1] + grad_rgb[2] * columns[3 * k + 2];
    for (int k = 0; k < kMaxSh; ++k)
        for (int channel = 0; channel < 3; ++channel)
            columns[3 * k + channel] = k < count ? select(drawn, basis[k]) * grad_rgb[channel] : V{};

    V slope[3];
    sh_slopes(degree, unit[0], unit[1], unit[2], basis_grad, slope[0], slope[1], slope[2]);
    // through the normalization: (I - d d^T) / |vector|
    const V radial = slope[0] * unit[0] + slope[1] * unit[1] + slope[2] * unit[2];
    for (int k = 0; k < 3; ++k) grad_vector[k] = (slope[k] - radial * unit[k]) * direction.inverse_norm;
}

}  // namespace
}  // namespace sparse3d
