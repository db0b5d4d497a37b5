// Gaussians in space to Gaussians in the image, a vector of them at a time: reference.py, project_gaussians.
#pragma once

#include "lanes_activation.h"
#include "layout.h"

namespace sparse3d {
namespace {

// project_gaussians up to the 2D covariance, with what its gradient needs again.
struct Projected {
    V world[3], camera[3], inverse_z;
    Mask in_range;
    V ratio_x, ratio_y;              // x/z, y/z
    V clamped_x, clamped_y;          // the same, as the Jacobian has them
    V quat[4], inverse_norm;         // normalized
    V rotation[9];                   // of the Gaussian
    Shape shape;
    V jacobian_x, jacobian_xz, jacobian_y, jacobian_yz;
    V jw0[3], jw1[3];                // rows of J W
    V axis0[3], axis1[3];            // rows of J W R
    V half0[3], half1[3];            // rows of J W R S
    V a, b, c;                       // covariance after eps2d
    V normal[3];                     // half0 x half1; its square is the determinant before eps2d, without cancellation
    V determinant_before, determinant;
    V slope, across;                 // b / a, and as in Splat

    Projected(const Gaussians& gaussians, const Camera& camera_in, int64_t i, int n) : shape(gaussians, i, n) {
        const Camera& cam = camera_in;
        load_rows3(gaussians.means, i, n, world);
        for (int k = 0; k < 3; ++k)
            camera[k] = cam.R[3 * k] * world[0] + cam.R[3 * k + 1] * world[1] + cam.R[3 * k + 2] * world[2] + cam.t[k];
        in_range = (camera[2] > cam.near_plane) & (camera[2] < cam.far_plane);
        inverse_z = 1.0f / (in_range ? camera[2] : all(1.0f));  // keeps what is not drawn finite
        ratio_x = camera[0] * inverse_z;
        ratio_y = camera[1] * inverse_z;
        clamped_x = min(max(ratio_x, all(cam.min_x)), all(cam.max_x));
        clamped_y = min(max(ratio_y, all(cam.min_y)), all(cam.max_y));

        load_rows4(gaussians.quats, i, n, quat);
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
            half0[k] = axis0[k] * shape.scale[k];
            half1[k] = axis1[k] * shape.scale[k];
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

}  // namespace
}  // namespace sparse3d
