// Real spherical harmonics up to degree 3 and their slopes: reference.py, sh_basis.
#pragma once

#include "layout.h"
#include "simd.h"

namespace sparse3d {
namespace {

constexpr float kSh0 = 0.28209479177387814f;
constexpr float kSh1 = 0.4886025119029199f;
constexpr float kSh2[3] = {1.0925484305920792f, 0.31539156525252005f, 0.5462742152960396f};
constexpr float kSh3[5] = {0.5900435899266435f, 2.890611442640554f, 0.4570457994644658f, 0.3731763325901154f,
                           1.445305721320277f};

// Basis functions of unit directions (x, y, z).
inline void sh_basis(int degree, V x, V y, V z, V out[kMaxSh]) {
    out[0] = all(kSh0);
    if (degree < 1) return;
    out[1] = -kSh1 * y;
    out[2] = kSh1 * z;
    out[3] = -kSh1 * x;
    if (degree < 2) return;
    const V xx = x * x, yy = y * y, zz = z * z;
    out[4] = kSh2[0] * x * y;
    out[5] = -kSh2[0] * y * z;
    out[6] = kSh2[1] * (2.0f * zz - xx - yy);
    out[7] = -kSh2[0] * x * z;
    out[8] = kSh2[2] * (xx - yy);
    if (degree < 3) return;
    out[9] = -kSh3[0] * y * (3.0f * xx - yy);
    out[10] = kSh3[1] * x * y * z;
    out[11] = -kSh3[2] * y * (4.0f * zz - xx - yy);
    out[12] = kSh3[3] * z * (2.0f * zz - 3.0f * xx - 3.0f * yy);
    out[13] = -kSh3[2] * x * (4.0f * zz - xx - yy);
    out[14] = kSh3[4] * z * (xx - yy);
    out[15] = -kSh3[0] * x * (xx - 3.0f * yy);
}

// Gradient of sum_k basis_grad[k] Y_k(x, y, z) in x, y, z taken as independent.
inline void sh_slopes(int degree, V x, V y, V z, const V basis_grad[kMaxSh], V& dx, V& dy, V& dz) {
    const V* g = basis_grad;
    dx = dy = dz = V{};
    if (degree < 1) return;
    dx += -kSh1 * g[3];
    dy += -kSh1 * g[1];
    dz += kSh1 * g[2];
    if (degree < 2) return;
    dx += kSh2[0] * (y * g[4] - z * g[7]) + 2.0f * x * (kSh2[2] * g[8] - kSh2[1] * g[6]);
    dy += kSh2[0] * (x * g[4] - z * g[5]) - 2.0f * y * (kSh2[2] * g[8] + kSh2[1] * g[6]);
    dz += -kSh2[0] * (y * g[5] + x * g[7]) + 4.0f * kSh2[1] * z * g[6];
    if (degree < 3) return;
    const V xx = x * x, yy = y * y, zz = z * z, xy = x * y, yz = y * z, xz = x * z;
    dx += -6.0f * kSh3[0] * xy * g[9] + kSh3[1] * yz * g[10] + 2.0f * kSh3[2] * xy * g[11] - 6.0f * kSh3[3] * xz * g[12] -
          kSh3[2] * (4.0f * zz - 3.0f * xx - yy) * g[13] + 2.0f * kSh3[4] * xz * g[14] -
          3.0f * kSh3[0] * (xx - yy) * g[15];
    dy += -3.0f * kSh3[0] * (xx - yy) * g[9] + kSh3[1] * xz * g[10] - kSh3[2] * (4.0f * zz - xx - 3.0f * yy) * g[11] -
          6.0f * kSh3[3] * yz * g[12] + 2.0f * kSh3[2] * xy * g[13] - 2.0f * kSh3[4] * yz * g[14] +
          6.0f * kSh3[0] * xy * g[15];
    dz += kSh3[1] * xy * g[10] - 8.0f * kSh3[2] * yz * g[11] + 3.0f * kSh3[3] * (2.0f * zz - xx - yy) * g[12] -
          8.0f * kSh3[2] * xz * g[13] + kSh3[4] * (xx - yy) * g[14];
}

}  // namespace
}  // namespace sparse3d
