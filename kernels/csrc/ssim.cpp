#include "ssim.h"

#include "thread_pool.h"

namespace sparse3d {

namespace {

int64_t tiles_across(int width) { return (width + kLossTileWidth - 1) / kLossTileWidth; }

int64_t tile_count(const SsimTarget& target) {
    return tiles_across(target.width) * ((target.height + kLossTileHeight - 1) / kLossTileHeight);
}

LossTask make_task(const SsimTarget& target) {
    LossTask task = {};
    task.width = target.width;
    task.height = target.height;
    task.stride = target.stride;
    task.target = target.colors.data();
    // only loss_target writes them
    task.target_mean = const_cast<float*>(target.mean.data());
    task.target_variance = const_cast<float*>(target.variance.data());
    return task;
}

}  // namespace

SsimTarget make_ssim_target(const Isa& isa, const float* image, int width, int height, int threads) {
    SsimTarget target;
    target.width = width;
    target.height = height;
    target.stride = tiles_across(width) * kLossTileWidth * 3 + 2 * kPlanePad;
    target.colors.resize(static_cast<size_t>(width) * height * 3);
    target.mean.resize(target.stride * height);
    target.variance.resize(target.stride * height);
    const int64_t plane = static_cast<int64_t>(width) * height;
    float* const colors = target.colors.data();
    parallel_for(height, kLossTileHeight, threads, [&](int64_t begin, int64_t end, int) {
        for (int64_t pixel = begin * width; pixel < end * width; ++pixel)
            for (int channel = 0; channel < 3; ++channel) colors[3 * pixel + channel] = image[channel * plane + pixel];
    });
    const LossTask task = make_task(target);
    parallel_for(tile_count(target), 1, threads,
                 [&](int64_t begin, int64_t end, int) { isa.loss_target(task, begin, end); });
    return target;
}

PhotometricLoss photometric_loss(const Isa& isa, const SsimTarget& target, const float* image, const uint8_t* mask,
                                 float ssim_weight, float* gradient, int threads) {
    const int64_t tiles = tile_count(target);
    const double count = 3.0 * target.width * target.height;
    LossTask task = make_task(target);
    task.image = image;
    task.mask = mask;
    task.l1_scale = static_cast<float>((1.0 - ssim_weight) / count);
    task.ssim_scale = static_cast<float>(ssim_weight / count);
    task.gradient = gradient;
    Buffer<double> tile_sums(2 * tiles);
    task.tile_sums = tile_sums.data();
    if (ssim_weight == 0.0f) task.target_mean = task.target_variance = nullptr;
    parallel_for(tiles, 1, threads, [&](int64_t begin, int64_t end, int) { isa.loss(task, begin, end); });
    PhotometricLoss loss = {0.0, 0.0};
    for (int64_t tile = 0; tile < tiles; ++tile) {
        loss.l1 += tile_sums[2 * tile] / count;
        loss.dissimilarity += tile_sums[2 * tile + 1] / count;
    }
    return loss;
}

}  // namespace sparse3d
