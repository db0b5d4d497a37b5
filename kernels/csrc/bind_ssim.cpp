#include "bind.h"
#include "ssim.h"

namespace sparse3d {

namespace {

SsimTarget py_ssim_target(In image, int threads) {
    const float* const pixels = data<const float>("image", image, {3, -1, -1});
    const int64_t height = size(image, 1), width = size(image, 2);
    check_image_size("image", width, height, 1);
    check_threads(threads);
    const Isa& isa = chosen_isa();
    nb::gil_scoped_release unlocked;
    return make_ssim_target(isa, pixels, static_cast<int>(width), static_cast<int>(height), threads);
}

std::pair<double, double> py_photometric_loss(const SsimTarget& target, In image, std::optional<In> mask, float ssim_weight,
                                              std::optional<Out> gradient, int threads) {
    const float* const pixels = data<const float>("image", image, {target.height, target.width, 3});
    const uint8_t* const kept = data<const uint8_t>("mask", mask, {target.height, target.width});
    float* const to_gradient = data<float>("gradient", gradient, {target.height, target.width, 3});
    need(ssim_weight >= 0.0f && ssim_weight <= 1.0f, "ssim_weight is " + std::to_string(ssim_weight) + ", needed 0 to 1");
    check_threads(threads);
    const Isa& isa = chosen_isa();
    nb::gil_scoped_release unlocked;
    const PhotometricLoss loss = photometric_loss(isa, target, pixels, kept, ssim_weight, to_gradient, threads);
    return {loss.l1, loss.dissimilarity};
}

}  // namespace

void bind_ssim(nb::module_& m) {
    nb::class_<SsimTarget>(m, "SsimTarget", "A target image and its window means.");
    m.def("ssim_target", &py_ssim_target, "image"_a.noconvert(), "threads"_a, "From an image (3, H, W).");
    m.def("photometric_loss", &py_photometric_loss, "target"_a, "image"_a.noconvert(), "mask"_a.noconvert().none(),
          "ssim_weight"_a, "gradient"_a.noconvert().none(), "threads"_a,
          "Mean L1 and mean 1 - SSIM of an image (H, W, 3); sets gradient (H, W, 3), that of (1 - w) L1 + w (1 - SSIM). "
          "1 - SSIM is not computed, and 0, when ssim_weight is 0.");
}

}  // namespace sparse3d
