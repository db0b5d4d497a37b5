// The photometric loss of 3DGS, (1 - w) L1 + w (1 - SSIM), and its gradient: the stages of lanes_ssim.h over all tiles.
#pragma once

#include "buffer.h"
#include "isa.h"

namespace sparse3d {

// A target image and what SSIM needs of it, computed once for all steps that compare with it.
struct SsimTarget {
    int width = 0, height = 0;
    int64_t stride = 0;
    Buffer<float> colors;          // (H, W, 3)
    Buffer<float> mean, variance;  // planes of LossTask
};

struct PhotometricLoss {
    double l1, dissimilarity;  // means over pixels and channels of |image - target| and of 1 - SSIM
};

// From an image (3, H, W). The result does not depend on `threads`, here and below.
SsimTarget make_ssim_target(const Isa& isa, const float* image, int width, int height, int threads);

// Of an image (H, W, 3). `mask` (H, W) and `gradient` (H, W, 3) may be null. With ssim_weight 0, dissimilarity is 0.
PhotometricLoss photometric_loss(const Isa& isa, const SsimTarget& target, const float* image, const uint8_t* mask,
                                 float ssim_weight, float* gradient, int threads);

}  // namespace sparse3d
