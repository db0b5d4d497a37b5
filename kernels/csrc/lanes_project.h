// Gaussians to splats and back: reference.py, project_gaussians and sh_to_rgb, a vector of Gaussians at a time.
#pragma once

#include "lanes_sh.h"
#include "layout.h"
#include "simd.h"

namespace sparse3d {
namespace {

// Component `k` of `n` rows of `stride` floats; lanes past the end repeat the last row.
inline V gather(const float* rows, int stride, int k, int n) {
    V v;
    for (int l = 0; l < kLanes; ++l) v[l] = rows[(l < n ? l : n - 1) * stride + k];
    return v;
}

inline void scatter_add(float* rows, int stride, int k, int n, V v) {
    float lanes[kLanes];
    store(lanes, v);
    for (int l = 0; l < n; ++l) rows[l * stride + k] += lanes[l];
}

// project_gaussians up to the 2D covariance, with what its gradient needs again.
struct Projected {
    V world[3], camera[3], inverse_z;
    Mask in_range;
    V ratio_x, ratio_y;              // x/z, y/z
    V clamped_x, clamped_y;          // the same, as the Jacobian has them
    V quat[4], inverse_norm;         // normalized
    V rotation[9], scale[3];         // of the Gaussian
    V jacobian_x, jacobian_xz, jacobian_y, jacobian_yz;
    V jw0[3], jw1[3];                // rows of J W
    V axis0[3], axis1[3];            // rows of J W R
    V half0[3], half1[3];            // rows of J W R S
    V a, b, c;                       // covariance after eps2d
    V normal[3];                     // half0 x half1; its square is the determinant before eps2d, without cancellation
    V determinant_before, determinant;
    V slope, across;                 // as in Splat

    Projected(const Gaussians& gaussians, const Camera& camera_in, int64_t i, int n) {
        const Camera& cam = camera_in;
        for (int k = 0; k < 3; ++k) world[k] = gather(gaussians.means + 3 * i, 3, k, n);
        for (int k = 0; k < 3; ++k)
            camera[k] = cam.R[3 * k] * world[0] + cam.R[3 * k + 1] * world[1] + cam.R[3 * k + 2] * world[2] + cam.t[k];
        in_range = (camera[2] > cam.near_plane) & (camera[2] < cam.far_plane);
        inverse_z = 1.0f / (in_range ? camera[2] : all(1.0f));  // keeps what is not drawn finite
        ratio_x = camera[0] * inverse_z;
        ratio_y = camera[1] * inverse_z;
        clamped_x = min(max(ratio_x, all(cam.min_x)), all(cam.max_x));
        clamped_y = min(max(ratio_y, all(cam.min_y)), all(cam.max_y));

        for (int k = 0; k < 4; ++k) quat[k] = gather(gaussians.quats + 4 * i, 4, k, n);
        const V norm = sqrt(quat[0] * quat[0] + quat[1] * quat[1] + quat[2] * quat[2] + quat[3] * quat[3]);
        inverse_norm = 1.0f / max(norm, all(1e-12f));  // as torch.nn.functional.normalize
        for (int k = 0; k < 4; ++k) quat[k] *= inverse_norm;
        const V w = quat[0], x = quat[1], y = quat[2], z = quat[3];
        rotation[0] = 1.0f - 2.0f * (y * y + z * z);
        rotation[1] = 2.0f * (x * y - w * z);
        rotation[2] = 2.0f * (x * z + w * y);
        rotation[3] = 2.0f * (x * y + w * z);
        rotation[4] = 1.0f - 2.0f * (x * x + z * z);
        rotation[5] = 2.0f * (y * z - w * x);
        rotation[6] = 2.0f * (x * z - w * y);
        rotation[7] = 2.0f * (y * z + w * x);
        rotation[8] = 1.0f - 2.0f * (x * x + y * y);
        for (int k = 0; k < 3; ++k) scale[k] = gather(gaussians.scales + 3 * i, 3, k, n);

        // J = (fx/z, 0, -fx tx/z^2; 0, fy/z, -fy ty/z^2), with tx/z and ty/z clamped
        jacobian_x = cam.fx * inverse_z;
        jacobian_y = cam.fy * inverse_z;
        jacobian_xz = -jacobian_x * clamped_x;
        jacobian_yz = -jacobian_y * clamped_y;
        for (int k = 0; k < 3; ++k) {
            jw0[k] = jacobian_x * cam.R[k] + jacobian_xz * cam.R[6 + k];
            jw1[k] = jacobian_y * cam.R[3 + k] + jacobian_yz * cam.R[6 + k];
        }
        for (int k = 0; k < 3; ++k) {
            axis0[k] = jw0[0] * rotation[k] + jw0[1] * rotation[3 + k] + jw0[2] * rotation[6 + k];
            axis1[k] = jw1[0] * rotation[k] + jw1[1] * rotation[3 + k] + jw1[2] * rotation[6 + k];
            half0[k] = axis0[k] * scale[k];
            half1[k] = axis1[k] * scale[k];
        }
        const V before_a = half0[0] * half0[0] + half0[1] * half0[1] + half0[2] * half0[2];
        const V before_c = half1[0] * half1[0] + half1[1] * half1[1] + half1[2] * half1[2];
        b = half0[0] * half1[0] + half0[1] * half1[1] + half0[2] * half1[2];
        a = before_a + cam.eps2d;
        c = before_c + cam.eps2d;
        normal[0] = half0[1] * half1[2] - half0[2] * half1[1];
        normal[1] = half0[2] * half1[0] - half0[0] * half1[2];
        normal[2] = half0[0] * half1[1] - half0[1] * half1[0];
        determinant_before = normal[0] * normal[0] + normal[1] * normal[1] + normal[2] * normal[2];
        determinant = determinant_before + cam.eps2d * (before_a + before_c + cam.eps2d);
        slope = b / a;
        across = sqrt(0.5f * kLog2E * a / determinant);
    }

    // Mip-Splatting eq. 8, clamped as in project_gaussians.
    V compensation(const Camera& cam) const {
        return cam.antialiased ? sqrt(max(determinant_before / determinant, all(1e-12f))) : all(1.0f);
    }
};

struct Direction {
    V unit[3], inverse_norm;

    Direction(const Camera& camera, const V world[3]) {
        for (int k = 0; k < 3; ++k) unit[k] = world[k] - camera.centre[k];
        const V norm = sqrt(unit[0] * unit[0] + unit[1] * unit[1] + unit[2] * unit[2]);
        inverse_norm = 1.0f / max(norm, all(1e-12f));
        for (int k = 0; k < 3; ++k) unit[k] *= inverse_norm;
    }
};

// Colours of n Gaussians from i on: max(0, 1/2 + sum_k c_k Y_k).
inline void colors_of(const Gaussians& gaussians, const Camera& camera, const V world[3], int64_t i, int n,
                      float rgb[][3]) {
    const float* colors = gaussians.colors + i * gaussians.color_stride;
    if (gaussians.sh_degree < 0) {
        for (int l = 0; l < n; ++l)
            for (int k = 0; k < 3; ++k) rgb[l][k] = colors[l * gaussians.color_stride + k];
        return;
    }
    const Direction direction(camera, world);
    V basis[kMaxSh];
    sh_basis(gaussians.sh_degree, direction.unit[0], direction.unit[1], direction.unit[2], basis);
    const int count = (gaussians.sh_degree + 1) * (gaussians.sh_degree + 1);
    for (int l = 0; l < n; ++l, colors += gaussians.color_stride) {
        float sum[3] = {0.5f, 0.5f, 0.5f};
        for (int k = 0; k < count; ++k)
            for (int channel = 0; channel < 3; ++channel) sum[channel] += basis[k][l] * colors[3 * k + channel];
        for (int channel = 0; channel < 3; ++channel) rgb[l][channel] = sum[channel] > 0.0f ? sum[channel] : 0.0f;
    }
}

// First and last pixel whose centre is within `reach` of `centre`, cut to the image, as tiles; false if there is none.
inline bool tile_range(float centre, float reach, int size, uint16_t& first, uint16_t& last) {
    const float margin = 0.01f + 1e-5f * reach;  // for rounding here and in the blend
    float low = centre - reach - margin - 0.5f;
    float high = centre + reach + margin - 0.5f;
    if (low < 0.0f) low = 0.0f;
    if (high > size - 1.0f) high = size - 1.0f;
    if (!(low <= high)) return false;  // also holds back what is too large for an integer
    int first_pixel = static_cast<int>(low);
    first_pixel += static_cast<float>(first_pixel) < low;  // rounded up
    const int last_pixel = static_cast<int>(high);
    if (first_pixel > last_pixel) return false;
    first = static_cast<uint16_t>(first_pixel / kTile);
    last = static_cast<uint16_t>(last_pixel / kTile);
    return true;
}

void project_forward(const Gaussians& gaussians, const Camera& camera, int64_t begin, int64_t end, Splat* splats,
                     TileBox* boxes) {
    for (int64_t i = begin; i < end; i += kLanes) {
        const int n = end - i < kLanes ? static_cast<int>(end - i) : kLanes;
        const TileBox nowhere = {1, 1, 0, 0};
        for (int l = 0; l < n; ++l) boxes[i + l] = nowhere;

        const Projected p(gaussians, camera, i, n);
        const V opacity = gather(gaussians.opacities + i, 1, 0, n) * p.compensation(camera);
        const V x = camera.fx * p.ratio_x + camera.cx, y = camera.fy * p.ratio_y + camera.cy;
        const V inverse_c = 1.0f / p.c;
        const V along = 0.5f * kLog2E / p.a;
        const V size = max(max(max(x, -x), max(y, -y)), sqrt(max(p.a, p.c)));
        // NaN compares false
        const Mask drawable = p.in_range & (opacity >= kAlphaMin) & (p.determinant > 0.0f) & (size < kFar2d) &
                              (p.across < 1e15f) & (along < 1e15f);
        if (!any(drawable)) continue;

        float rgb[kLanes][3];
        colors_of(gaussians, camera, p.world, i, n, rgb);
        V log2_opacity = V{};
        for (int l = 0; l < n; ++l)
            if (drawable[l]) log2_opacity[l] = __builtin_log2f(opacity[l]);
        // alpha reaches ALPHA_MIN at this distance in standard deviations; a little more, for rounding
        const V reach = sqrt(max(2.0f * kLn2 * (log2_opacity - kLog2AlphaMin), V{}) + 1e-3f);
        const V reach_x = reach * sqrt(p.a), reach_y = reach * sqrt(p.c);
        const V tip_y = reach_x * p.slope, shear = p.b * inverse_c, thickness = sqrt(p.determinant) * inverse_c;

        for (int l = 0; l < n; ++l) {
            TileBox box;
            if (!drawable[l] || !tile_range(x[l], reach_x[l], camera.width, box.x0, box.x1) ||
                !tile_range(y[l], reach_y[l], camera.height, box.y0, box.y1))
                continue;
            boxes[i + l] = box;
            Splat& s = splats[i + l];
            s.x = x[l];
            s.y = y[l];
            s.slope = p.slope[l];
            s.across = p.across[l];
            s.along = along[l];
            s.log2_opacity = log2_opacity[l];
            s.r = rgb[l][0];
            s.g = rgb[l][1];
            s.b = rgb[l][2];
            s.depth = p.camera[2][l];
            s.reach_y = reach_y[l];
            s.tip_y = tip_y[l];
            s.shear = shear[l];
            s.thickness = thickness[l];
        }
    }
}

// Gradient of the colours: adds that of `colors`, and for SH returns that of the vector from the camera to the Gaussian.
inline void color_backward(const Gaussians& gaussians, const Camera& camera, const V world[3], int64_t i, int n,
                           const bool* drawn, const Splat* splats, const V grad_rgb[3], float* grad_colors,
                           V grad_vector[3]) {
    const int stride = gaussians.color_stride;
    grad_colors += i * stride;
    for (int k = 0; k < 3; ++k) grad_vector[k] = V{};
    if (gaussians.sh_degree < 0) {
        for (int k = 0; k < 3; ++k) scatter_add(grad_colors, stride, k, n, grad_rgb[k]);
        return;
    }
    const Direction direction(camera, world);
    const V* unit = direction.unit;
    const int degree = gaussians.sh_degree, count = (degree + 1) * (degree + 1);
    V basis[kMaxSh], basis_grad[kMaxSh];
    sh_basis(degree, unit[0], unit[1], unit[2], basis);
    for (int k = 0; k < kMaxSh; ++k) basis_grad[k] = V{};
    const float* colors = gaussians.colors + i * stride;
    for (int l = 0; l < n; ++l, colors += stride, grad_colors += stride) {
        if (!drawn[l]) continue;
        const Splat& s = splats[i + l];
        // max(0, .) lets the gradient through where the colour is positive
        const float r = s.r > 0.0f ? grad_rgb[0][l] : 0.0f;
        const float g = s.g > 0.0f ? grad_rgb[1][l] : 0.0f;
        const float b = s.b > 0.0f ? grad_rgb[2][l] : 0.0f;
        for (int k = 0; k < count; ++k) {
            const float y = basis[k][l];
            grad_colors[3 * k] += y * r;
            grad_colors[3 * k + 1] += y * g;
            grad_colors[3 * k + 2] += y * b;
            basis_grad[k][l] = r * colors[3 * k] + g * colors[3 * k + 1] + b * colors[3 * k + 2];
        }
    }
    V slope[3];
    sh_slopes(degree, unit[0], unit[1], unit[2], basis_grad, slope[0], slope[1], slope[2]);
    // through the normalization: (I - d d^T) / |vector|
    const V radial = slope[0] * unit[0] + slope[1] * unit[1] + slope[2] * unit[2];
    for (int k = 0; k < 3; ++k) grad_vector[k] = (slope[k] - radial * unit[k]) * direction.inverse_norm;
}

// Sums the slots of n Gaussians from i on, in order; false if they have none.
inline bool sum_slots(int64_t i, int n, const uint32_t* slot_begin, const Slot* slots, bool* drawn,
                      V sums[kSlotFields]) {
    for (int l = 0; l < kLanes; ++l) drawn[l] = false;
    if (slot_begin[i] == slot_begin[i + n]) return false;
    float lanes[kSlotSize][kLanes] = {};
    for (int l = 0; l < n; ++l) {
        drawn[l] = slot_begin[i + l] < slot_begin[i + l + 1];
        float total[kSlotSize] = {};
        for (uint32_t slot = slot_begin[i + l]; slot < slot_begin[i + l + 1]; ++slot)
            for (int k = 0; k < kSlotSize; ++k) total[k] += slots[slot].sums[k];
        for (int k = 0; k < kSlotSize; ++k) lanes[k][l] = total[k];
    }
    for (int k = 0; k < kSlotFields; ++k) sums[k] = load(lanes[k]);
    return true;
}

void project_backward(const Gaussians& gaussians, const Camera& cam, int64_t begin, int64_t end, const Splat* splats,
                      const uint32_t* slot_begin, const Slot* slots, const GaussianGradients& grads,
                      float* camera_sums) {
    V block[kSlotSize];  // gradient of R, t and the camera's centre
    for (int k = 0; k < kSlotSize; ++k) block[k] = V{};
    for (int64_t i = begin; i < end; i += kLanes) {
        const int n = end - i < kLanes ? static_cast<int>(end - i) : kLanes;
        bool drawn[kLanes];
        V sums[kSlotFields];
        if (!sum_slots(i, n, slot_begin, slots, drawn, sums)) continue;
        Mask is_drawn;
        for (int l = 0; l < kLanes; ++l) is_drawn[l] = drawn[l] ? -1 : 0;

        const Projected p(gaussians, cam, i, n);
        const V opacity = gather(gaussians.opacities + i, 1, 0, n);

        // With U = (1, 0; -slope, 1) and D = diag(1/a, a/det), the conic is U^T D U, and U (dx, dy) = (dx, t/across).
        // 2 sigma = d^T conic d and dL/dsigma = -v, so dL/dcentre = U^T D sum v U d
        const V inverse_a = 1.0f / p.a;
        const V t_scale = p.across / (0.5f * kLog2E);  // a / det / across
        const V grad_y = t_scale * sums[kVT];
        const V grad_x = inverse_a * sums[kVX] - p.slope * grad_y;
        // dL/dcovariance = 1/2 U^T E U, with E = D (sum v U d d^T U^T) D
        const V e00 = inverse_a * inverse_a * sums[kVXX];
        const V e01 = inverse_a * t_scale * sums[kVXT];
        const V e11 = t_scale * t_scale * sums[kVTT];

        // alpha = opacity compensation exp(-sigma); compensation^2 = determinant_before / determinant
        const V grad_opacity = sums[kV] / opacity;
        V grad_log_ratio = V{}, inverse_before = V{};
        if (cam.antialiased) {
            const Mask free = p.determinant_before / p.determinant >= 1e-12f;
            grad_log_ratio = select(free, 0.5f * sums[kV]);
            inverse_before = select(free, 1.0f / p.determinant_before);
        }

        // covariance = half half^T + eps2d, so dL/dhalf = U^T E (U half). The determinant before eps2d is |normal|^2, with
        // gradient 2 (half1 x normal, normal x half0); covariance^-1 half is (eps2d half + those products) / determinant.
        V grad_half0[3], grad_half1[3];
        for (int k = 0; k < 3; ++k) {
            const int next = (k + 1) % 3, last = (k + 2) % 3;
            const V cross0 = p.half1[next] * p.normal[last] - p.half1[last] * p.normal[next];
            const V cross1 = p.normal[next] * p.half0[last] - p.normal[last] * p.half0[next];
            const V adjoint0 = cam.eps2d * p.half0[k] + cross0, adjoint1 = cam.eps2d * p.half1[k] + cross1;
            const V sheared = adjoint1 * inverse_a;  // half1 - slope half0
            const V row1 = e01 * p.half0[k] + e11 * sheared;
            const V row0 = e00 * p.half0[k] + e01 * sheared - p.slope * row1;
            grad_half0[k] = row0 + 2.0f * grad_log_ratio * (cross0 * inverse_before - adjoint0 / p.determinant);
            grad_half1[k] = row1 + 2.0f * grad_log_ratio * (cross1 * inverse_before - adjoint1 / p.determinant);
        }
        V grad_axis0[3], grad_axis1[3], grad_scale[3];
        for (int k = 0; k < 3; ++k) {
            grad_scale[k] = grad_half0[k] * p.axis0[k] + grad_half1[k] * p.axis1[k];
            grad_axis0[k] = grad_half0[k] * p.scale[k];
            grad_axis1[k] = grad_half1[k] * p.scale[k];
        }

        // axis = J W R
        V grad_rotation[9], grad_jw0[3], grad_jw1[3];
        for (int row = 0; row < 3; ++row) {
            grad_jw0[row] = grad_jw1[row] = V{};
            for (int k = 0; k < 3; ++k) {
                grad_rotation[3 * row + k] = p.jw0[row] * grad_axis0[k] + p.jw1[row] * grad_axis1[k];
                grad_jw0[row] += grad_axis0[k] * p.rotation[3 * row + k];
                grad_jw1[row] += grad_axis1[k] * p.rotation[3 * row + k];
            }
        }
        const V w = p.quat[0], x = p.quat[1], y = p.quat[2], z = p.quat[3];
        const V* h = grad_rotation;
        V grad_quat[4] = {
            2.0f * (z * (h[3] - h[1]) + y * (h[2] - h[6]) + x * (h[7] - h[5])),
            2.0f * (y * (h[1] + h[3]) + z * (h[2] + h[6]) + w * (h[7] - h[5]) - 2.0f * x * (h[4] + h[8])),
            2.0f * (x * (h[1] + h[3]) + w * (h[2] - h[6]) + z * (h[5] + h[7]) - 2.0f * y * (h[0] + h[8])),
            2.0f * (w * (h[3] - h[1]) + x * (h[2] + h[6]) + y * (h[5] + h[7]) - 2.0f * z * (h[0] + h[4])),
        };
        V radial = grad_quat[0] * w + grad_quat[1] * x + grad_quat[2] * y + grad_quat[3] * z;
        radial = select(p.inverse_norm < 5e11f, radial);  // a zero quaternion is divided by a constant
        for (int k = 0; k < 4; ++k) grad_quat[k] = (grad_quat[k] - radial * p.quat[k]) * p.inverse_norm;

        // J and the centre, in x/z, y/z and 1/z
        V grad_jx = V{}, grad_jxz = V{}, grad_jy = V{}, grad_jyz = V{};
        for (int k = 0; k < 3; ++k) {
            grad_jx += grad_jw0[k] * cam.R[k];
            grad_jy += grad_jw1[k] * cam.R[3 + k];
            grad_jxz += grad_jw0[k] * cam.R[6 + k];
            grad_jyz += grad_jw1[k] * cam.R[6 + k];
        }
        const Mask free_x = (p.ratio_x >= cam.min_x) & (p.ratio_x <= cam.max_x);
        const Mask free_y = (p.ratio_y >= cam.min_y) & (p.ratio_y <= cam.max_y);
        const V grad_ratio_x = cam.fx * grad_x - select(free_x, p.jacobian_x * grad_jxz);
        const V grad_ratio_y = cam.fy * grad_y - select(free_y, p.jacobian_y * grad_jyz);
        const V grad_inverse_z = cam.fx * (grad_jx - p.clamped_x * grad_jxz) + cam.fy * (grad_jy - p.clamped_y * grad_jyz);
        V grad_camera[3];
        grad_camera[0] = grad_ratio_x * p.inverse_z;
        grad_camera[1] = grad_ratio_y * p.inverse_z;
        grad_camera[2] = sums[kDepth] - p.inverse_z * (grad_ratio_x * p.ratio_x + grad_ratio_y * p.ratio_y +
                                                       grad_inverse_z * p.inverse_z);

        V grad_vector[3];
        color_backward(gaussians, cam, p.world, i, n, drawn, splats, sums + kR, grads.colors, grad_vector);

        // What is not drawn has no gradient; its numbers above may be anything.
        scatter_add(grads.opacities + i, 1, 0, n, select(is_drawn, grad_opacity));
        for (int k = 0; k < 4; ++k) scatter_add(grads.quats + 4 * i, 4, k, n, select(is_drawn, grad_quat[k]));
        for (int k = 0; k < 3; ++k) scatter_add(grads.scales + 3 * i, 3, k, n, select(is_drawn, grad_scale[k]));
        for (int k = 0; k < 3; ++k) {
            const V grad_mean = grad_camera[0] * cam.R[k] + grad_camera[1] * cam.R[3 + k] + grad_camera[2] * cam.R[6 + k];
            scatter_add(grads.means + 3 * i, 3, k, n, select(is_drawn, grad_mean + grad_vector[k]));
        }
        for (int k = 0; k < 3; ++k) {
            block[k] += select(is_drawn, grad_camera[0] * p.world[k] + p.jacobian_x * grad_jw0[k]);
            block[3 + k] += select(is_drawn, grad_camera[1] * p.world[k] + p.jacobian_y * grad_jw1[k]);
            block[6 + k] += select(is_drawn, grad_camera[2] * p.world[k] + p.jacobian_xz * grad_jw0[k] +
                                                 p.jacobian_yz * grad_jw1[k]);
            block[9 + k] += select(is_drawn, grad_camera[k]);
            block[12 + k] -= select(is_drawn, grad_vector[k]);
        }
    }
    float total[kSlotSize];
    sum_lanes(block, total);
    for (int k = 0; k < kCameraSums; ++k) camera_sums[k] = total[k];
}

}  // namespace
}  // namespace sparse3d
