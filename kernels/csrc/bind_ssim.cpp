#include "bind.h"
#include "ssim.h"

namespace sparse3d {

namespace {

using InMask = nb::ndarray<const uint8_t, nb::ndim<2>, nb::c_contig, nb::device::cpu>;

SsimTarget py_ssim_target(InPlanes image, int threads) {
    const int64_t height = static_cast<int64_t>(image.shape(1)), width = static_cast<int64_t>(image.shape(2));
    if (width < 1 || height < 1) throw std::invalid_argument("the target has no pixels");
    if (width > 65536 || height > 65536) throw std::invalid_argument("images may have at most 65536 pixels on a side");
    check_threads(threads);
    nb::gil_scoped_release unlocked;
    return make_ssim_target(image.data(), static_cast<int>(width), static_cast<int>(height), threads);
}

std::pair<double, double> py_photometric_loss(const SsimTarget& target, InPixels image, std::optional<InMask> mask,
                                              float ssim_weight, std::optional<OutPixels> gradient, int threads) {
    check("image", image, {target.height, target.width, 3});
    if (mask) check("mask", *mask, {target.height, target.width});
    if (gradient) check("gradient", *gradient, {target.height, target.width, 3});
    if (!(ssim_weight >= 0.0f && ssim_weight <= 1.0f)) throw std::invalid_argument("ssim_weight must be in [0, 1]");
    check_threads(threads);
    nb::gil_scoped_release unlocked;
    const PhotometricLoss loss = photometric_loss(target, image.data(), mask ? mask->data() : nullptr, ssim_weight,
                                                  gradient ? gradient->data() : nullptr, threads);
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
