// Gradient sums of splats to gradients of Gaussians, a vector of them at a time.
#pragma once

#include "lanes_color.h"

namespace sparse3d {
namespace {

// Sums the slots of n Gaussians from i on, region after region; false if they have none.
inline bool sum_slots(int64_t i, int n, const SlotTable& table, Mask& drawn, V sums[kSlotSize]) {
    const uint32_t* begin = table.place_begin + i;
    drawn = Mask{};
    if (begin[0] == begin[n]) return false;
    Slot rows[kLanes];
    const uint32_t end = table.place_begin[table.count];
    for (int l = 0; l < kLanes; ++l) {
        V total[kSlotSize / kLanes] = {};
        const uint32_t last = l < n ? begin[l + 1] : 0;
        for (uint32_t place = l < n ? begin[l] : 0; place < last; ++place) {
            const uint32_t ahead = place + 2 * kFetchAhead;
            __builtin_prefetch(&table.slots[table.places[ahead < end ? ahead : place]]);
            const float* slot = table.slots[table.places[place]].sums;
            for (int k = 0; k < kSlotSize / kLanes; ++k) total[k] += load(slot + k * kLanes);
            drawn[l] = -1;
        }
        for (int k = 0; k < kSlotSize / kLanes; ++k) store(rows[l].sums + k * kLanes, total[k]);
    }
    load_columns(rows->sums, kSlotSize, sums);
    return true;
}

// What the sums of kLanes Gaussians from row i on mean for them and for the camera; 0 in lanes that are not drawn, whose numbers
// on the way may be anything.
struct Gradients {
    V mean[3], quat[4], scale[3], colors[kMostFloats];
    V camera[kCameraSums];  // of rotation, translation and centre, to be summed over the lanes

    Gradients(const Gaussians& gaussians, const Camera& cam, const Projected& p, int64_t i, int n, Mask drawn,
              const V sums[kSlotSize]) {
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

        // alpha = opacity compensation exp(-sigma), so that dL/dopacity = sum v / opacity;
        // compensation^2 = determinant_before / determinant
        const V inverse_determinant = 1.0f / p.determinant;
        V grad_log_ratio = V{}, inverse_before = V{};
        if (cam.antialiased) {
            const Mask free = p.determinant_before * inverse_determinant >= 1e-12f;
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
            grad_half0[k] = row0 + 2.0f * grad_log_ratio * (cross0 * inverse_before - adjoint0 * inverse_determinant);
            grad_half1[k] = row1 + 2.0f * grad_log_ratio * (cross1 * inverse_before - adjoint1 * inverse_determinant);
        }
        V grad_axis0[3], grad_axis1[3];
        for (int k = 0; k < 3; ++k) {
            scale[k] = grad_half0[k] * p.axis0[k] + grad_half1[k] * p.axis1[k];
            grad_axis0[k] = grad_half0[k] * p.shape.scale[k];
            grad_axis1[k] = grad_half1[k] * p.shape.scale[k];
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
        const V by_unit[4] = {
            2.0f * (z * (h[3] - h[1]) + y * (h[2] - h[6]) + x * (h[7] - h[5])),
            2.0f * (y * (h[1] + h[3]) + z * (h[2] + h[6]) + w * (h[7] - h[5]) - 2.0f * x * (h[4] + h[8])),
            2.0f * (x * (h[1] + h[3]) + w * (h[2] - h[6]) + z * (h[5] + h[7]) - 2.0f * y * (h[0] + h[8])),
            2.0f * (w * (h[3] - h[1]) + x * (h[2] + h[6]) + y * (h[5] + h[7]) - 2.0f * z * (h[0] + h[4])),
        };
        V radial = by_unit[0] * w + by_unit[1] * x + by_unit[2] * y + by_unit[3] * z;
        radial = select(p.inverse_norm < 5e11f, radial);  // a zero quaternion is divided by a constant
        for (int k = 0; k < 4; ++k) quat[k] = select(drawn, (by_unit[k] - radial * p.quat[k]) * p.inverse_norm);

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
        color_backward(gaussians, cam, p.world, i, n, drawn, sums + kR, colors, grad_vector);
        for (int k = 0; k < 3; ++k) {
            mean[k] = grad_camera[0] * cam.R[k] + grad_camera[1] * cam.R[3 + k] + grad_camera[2] * cam.R[6 + k];
            mean[k] = select(drawn, mean[k] + grad_vector[k]);
            scale[k] = select(drawn, scale[k]);
            camera[k] = select(drawn, grad_camera[0] * p.world[k] + p.jacobian_x * grad_jw0[k]);
            camera[3 + k] = select(drawn, grad_camera[1] * p.world[k] + p.jacobian_y * grad_jw1[k]);
            camera[6 + k] = select(drawn, grad_camera[2] * p.world[k] + p.jacobian_xz * grad_jw0[k] +
                                              p.jacobian_yz * grad_jw1[k]);
            camera[9 + k] = select(drawn, grad_camera[k]);
            camera[12 + k] = -select(drawn, grad_vector[k]);
        }
    }
};

}  // namespace
}  // namespace sparse3d
