// Runs every compiled kernel without Python, for ThreadSanitizer and for other architectures (see Makefile). Held to here: results
// do not depend on the number of threads, nor on other callers; they are finite, and those of other instruction sets.
//
//     driver [FILE]   with FILE, also those of the run that wrote it: on another machine, or by another compiler

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "isa.h"
#include "adam.h"
#include "raster.h"
#include "ssim.h"
#include "sweep.h"
#include "warp.h"

using namespace sparse3d;

namespace {

using Floats = std::vector<float>;

constexpr int kCount = 1500, kViews = 2, kWidth = 150, kHeight = 101, kPlanes = 20;
constexpr int64_t kPixels = static_cast<int64_t>(kWidth) * kHeight;
constexpr double kTolerance = 5e-4;  // of each result as a whole; 1.1e-5 seen, and a pixel at a cut-off may go either way

Floats uniform(size_t count, float low, float high, uint32_t seed) {
    Floats numbers(count);
    for (float& number : numbers) {
        seed = seed * 1664525u + 1013904223u;
        number = low + (high - low) * static_cast<float>(seed >> 8) / 16777216.0f;
    }
    return numbers;
}

// Image and all gradients of a view of many Gaussians, one result after another.
[[noreturn]] void fail(const std::string& what) {
    std::fprintf(stderr, "%s\n", what.c_str());
    std::exit(1);
}

std::vector<Floats> raster_results(const Isa& isa, int threads) {
    Floats means = uniform(3 * kCount, -1.0f, 1.0f, 1);
    const Floats quats = uniform(4 * kCount, -1.0f, 1.0f, 2), scales = uniform(3 * kCount, 0.005f, 0.1f, 3);
    const Floats opacities = uniform(kCount, 0.1f, 0.9f, 4), colors = uniform(12 * kCount, -0.5f, 0.5f, 5);
    Floats viewmats(16 * kViews, 0.0f), intrinsics(9 * kViews, 0.0f);
    for (int v = 0; v < kViews; ++v) {
        for (int k = 0; k < 4; ++k) viewmats[16 * v + 5 * k] = 1.0f;
        viewmats[16 * v + 3] = 0.1f * v;
        viewmats[16 * v + 11] = 3.0f;
        intrinsics[9 * v] = intrinsics[9 * v + 4] = kWidth;
        intrinsics[9 * v + 2] = 0.5f * kWidth;
        intrinsics[9 * v + 5] = 0.5f * kHeight;
        intrinsics[9 * v + 8] = 1.0f;
    }
    const float background[3] = {0.1f, 0.2f, 0.3f};
    const Gaussians gaussians = {means.data(), quats.data(), scales.data(), opacities.data(), colors.data(), kCount, 12, 1,
                                 false, nullptr, 1.0f};
    const Cameras cameras = {viewmats.data(), intrinsics.data(), kViews, kWidth, kHeight, 0.01f, 1e10f, 0.3f, true, background};
    Floats rgb(3 * kViews * kPixels), alpha(kViews * kPixels), depth(kViews * kPixels), median(kViews * kPixels);
    const Images images = {rgb.data(), alpha.data(), depth.data(), median.data()};
    const Context context = forward(isa, gaussians, cameras, images, true, threads);
    const Floats by_rgb = uniform(rgb.size(), -0.3f, 0.7f, 6), by_alpha = uniform(alpha.size(), -0.3f, 0.7f, 7);
    const Floats by_depth = uniform(depth.size(), -0.3f, 0.7f, 8);
    Floats to_means(3 * kCount), to_quats(4 * kCount), to_scales(3 * kCount), to_opacities(kCount), to_colors(12 * kCount);
    Floats to_viewmats(16 * kViews), to_background(3);
    backward(isa, context, gaussians, images, {by_rgb.data(), by_alpha.data(), by_depth.data()},
             {to_means.data(), to_quats.data(), to_scales.data(), to_opacities.data(), to_colors.data()}, to_viewmats.data(),
             to_background.data(), threads);
    return {rgb, alpha, depth, median, to_means, to_quats, to_scales, to_opacities, to_colors, to_viewmats, to_background};
}

std::vector<Floats> loss_results(const Isa& isa, int threads) {
    const Floats planar = uniform(3 * kPixels, 0.0f, 1.0f, 9), image = uniform(3 * kPixels, 0.0f, 1.0f, 10);
    Floats gradient(3 * kPixels);
    const SsimTarget target = make_ssim_target(isa, planar.data(), kWidth, kHeight, threads);
    const PhotometricLoss loss = photometric_loss(isa, target, image.data(), nullptr, 0.2f, gradient.data(), threads);
    return {{static_cast<float>(loss.l1), static_cast<float>(loss.dissimilarity)}, gradient};
}

std::vector<Floats> sweep_results(const Isa& isa, int threads) {
    const Floats reference = uniform(kPixels, 0.0f, 1.0f, 11), depths = uniform(kPlanes, 1.0f, 3.0f, 12);
    const Floats relief = uniform(kPixels, 0.8f, 1.2f, 13);
    const SourceView source = {reference.data(), {kWidth, kHeight, {1, 0, 0, 0, 1, 0, 0, 0, 1}, {7.0f, 0.5f, 0.0f}}};
    Floats scores(kPixels * kPlanes), total(kPixels * kPlanes);
    zncc_sweep(isa, {reference.data(), kWidth, kHeight}, {source, source}, depths.data(), kPlanes, relief.data(), 5, 1e-5f, scores.data(), threads);
    AggregateTask prices = {};
    prices.width = kWidth;
    prices.height = kHeight;
    prices.planes = kPlanes;
    prices.costs = scores.data();
    prices.guide = reference.data();
    prices.small = 0.1f;
    prices.large = 1.0f;
    prices.edge_weight = 10.0f;
    semi_global(isa, prices, 8, total.data(), threads);
    const Grey grey = {reference.data(), kWidth, kHeight};
    Floats by_features(kPixels * kPlanes), by_census(kPixels * kPlanes), alone(kPixels * kPlanes);
    feature_sweep(isa, grey, 1, {source, source}, depths.data(), kPlanes, by_features.data(), threads);
    // Not compared between instruction sets: a bit of the census is a comparison, which rounding may decide.
    census_sweep(isa, grey, {source, source}, depths.data(), kPlanes, relief.data(), by_census.data(), threads);
    census_sweep(isa, grey, {source, source}, depths.data(), kPlanes, relief.data(), alone.data(), 1);
    if (by_census != alone) fail("census depends on the number of threads");
    return {scores, total, by_features};
}

std::vector<Floats> warp_results(const Isa& isa, int threads) {
    const Floats image = uniform(3 * kPixels, 0.0f, 1.0f, 13), depth_in = uniform(kPixels, 2.0f, 2.1f, 14);
    WarpSource photo = {};
    photo.width = photo.target_width = kWidth;
    photo.height = photo.target_height = kHeight;
    photo.image = image.data();
    photo.depth = depth_in.data();
    for (int k = 0; k < 3; ++k) photo.turn[4 * k] = 1;
    photo.shift[0] = 5.0f;
    photo.focal_x = photo.focal_y = 40.0f;
    photo.near_plane = 0.01f;
    photo.steepest = 10.0f;
    Floats color(3 * kPixels), depth(kPixels), validity(kPixels);
    WarpTask task = {};
    task.width = kWidth;
    task.height = kHeight;
    task.tolerance = 0.02f;
    task.color = color.data();
    task.depth = depth.data();
    task.validity = validity.data();
    forward_warp(isa, {photo, photo}, task, threads);
    return {color, depth, validity};
}

// A step of training: pictures before it, then the Gaussians and what Adam keeps of them.
std::vector<Floats> training_results(const Isa& isa, int threads) {
    constexpr int kFloats[kParameters] = {3, 4, 3, 1, 12};
    Floats values[kParameters] = {uniform(3 * kCount, -1.0f, 1.0f, 1), uniform(4 * kCount, -1.0f, 1.0f, 2),
                                  uniform(3 * kCount, -5.0f, -2.0f, 3), uniform(kCount, -2.0f, 2.0f, 4),
                                  uniform(12 * kCount, -0.5f, 0.5f, 5)};
    Floats mean[kParameters], square[kParameters];
    AdamTask task = {};
    for (int k = 0; k < kParameters; ++k) {
        mean[k] = uniform(values[k].size(), -0.1f, 0.1f, 15);
        square[k] = uniform(values[k].size(), 0.1f, 1.0f, 16);
        const Floats rates = uniform(kFloats[k], 0.01f, 0.1f, 17);
        task.tensors[k] = adam_tensor(values[k].data(), mean[k].data(), square[k].data(), rates.data(), kFloats[k]);
    }
    task.kept1 = 0.9f;
    task.fresh1 = 0.1f;
    task.kept2 = 0.999f;
    task.fresh2 = 0.001f;
    task.root_scale = 31.6f;
    task.eps = 1e-15f;
    const Floats decay(kCount, 0.99f);
    task.opacity_decay = decay.data();
    std::vector<uint8_t> kept(kCount);
    for (int i = 0; i < kCount; ++i) kept[i] = i % 5 != 0;
    const Gaussians gaussians = {values[kMeans].data(), values[kQuats].data(), values[kLogScales].data(),
                                 values[kLogitOpacities].data(), values[kCoefficients].data(), kCount, 12, 1, true, kept.data(), 1.25f};
    Floats viewmat(16, 0.0f);
    for (int k = 0; k < 4; ++k) viewmat[5 * k] = 1.0f;
    viewmat[11] = 3.0f;
    const float intrinsics[9] = {kWidth, 0.0f, 0.5f * kWidth, 0.0f, kWidth, 0.5f * kHeight, 0.0f, 0.0f, 1.0f};
    const float background[3] = {0.1f, 0.2f, 0.3f};
    const Cameras cameras = {viewmat.data(), intrinsics, 1, kWidth, kHeight, 0.01f, 1e10f, 0.3f, false, background};
    Floats rgb(3 * kPixels), alpha(kPixels), depth(kPixels), median(kPixels);
    const Images images = {rgb.data(), alpha.data(), depth.data(), median.data()};
    const Context context = forward(isa, gaussians, cameras, images, true, threads);
    const Floats by_rgb = uniform(rgb.size(), -0.3f, 0.7f, 6);
    update(isa, context, gaussians, images, {by_rgb.data(), nullptr, nullptr}, task, threads);
    std::vector<Floats> results = {rgb, alpha, depth, median};
    for (int k = 0; k < kParameters; ++k) results.insert(results.end(), {values[k], mean[k], square[k]});
    return results;
}

std::vector<Floats> all_results(const Isa& isa, int threads) {
    std::vector<Floats> results;
    for (const auto& part : {raster_results(isa, threads), loss_results(isa, threads), sweep_results(isa, threads),
                             warp_results(isa, threads), training_results(isa, threads)})
        results.insert(results.end(), part.begin(), part.end());
    return results;
}

void need_equal(const std::vector<Floats>& got, const std::vector<Floats>& want, const std::string& what) {
    for (size_t k = 0; k < want.size(); ++k)
        if (std::memcmp(got[k].data(), want[k].data(), want[k].size() * sizeof(float)) != 0)
            fail(what + ": result " + std::to_string(k) + " differs");
}

// By the root of the mean square, relative to that of what is wanted.
void need_close(const std::vector<Floats>& got, const std::vector<Floats>& want, const std::string& what) {
    for (size_t k = 0; k < want.size(); ++k) {
        double difference = 0.0, size = 0.0;
        for (size_t i = 0; i < want[k].size(); ++i) {
            if (!std::isfinite(got[k][i])) fail(what + ": result " + std::to_string(k) + " is not finite");
            difference += std::pow(static_cast<double>(got[k][i]) - want[k][i], 2);
            size += std::pow(static_cast<double>(want[k][i]), 2);
        }
        if (!(size > 0.0 && difference <= kTolerance * kTolerance * size))
            fail(what + ": result " + std::to_string(k) + " is off by " + std::to_string(std::sqrt(difference / size)));
    }
}

void need_as_in_file(const std::vector<Floats>& results, const char* path) {
    if (std::FILE* const file = std::fopen(path, "rb")) {
        std::vector<Floats> want = results;
        for (Floats& numbers : want)
            if (std::fread(numbers.data(), sizeof(float), numbers.size(), file) != numbers.size()) fail(std::string(path) + " is short");
        std::fclose(file);
        need_close(results, want, path);
        return;
    }
    std::FILE* const file = std::fopen(path, "wb");
    if (file == nullptr) fail(std::string("cannot write ") + path);
    for (const Floats& numbers : results) std::fwrite(numbers.data(), sizeof(float), numbers.size(), file);
    std::fclose(file);
}

}  // namespace

int main(int argc, char** argv) {
    std::vector<Floats> first;
    for (const char* const* name = runnable_isas(); *name != nullptr; ++name) {
        setenv("SPARSE3D_ISA", *name, 1);
        const Isa& isa = chosen_isa();
        const std::vector<Floats> alone = all_results(isa, 1);
        if (first.empty()) first = alone;
        need_close(alone, first, *name);
        for (const int threads : {2, 3, 8})
            need_equal(all_results(isa, threads), alone, *name + (" with " + std::to_string(threads)) + " threads");
        std::vector<std::vector<Floats>> got(4);  // one caller has the pool at a time, the others do it all themselves
        std::vector<std::thread> callers;
        for (auto& results : got) callers.emplace_back([&] { results = all_results(isa, 8); });
        for (std::thread& caller : callers) caller.join();
        for (const auto& results : got) need_equal(results, alone, std::string(*name) + " with other callers");
        std::printf("%s: ok\n", *name);
    }
    if (argc > 1) need_as_in_file(first, argv[1]);
    return 0;
}
