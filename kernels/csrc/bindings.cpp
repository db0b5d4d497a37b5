// The Python module sparse3d.kernels._cpu. Only kernels/cpu.py and kernels/cpu_loss.py call it: arrays go in as they are
// (.noconvert()) and gradients pass through their torch.autograd.Functions.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "raster.h"
#include "ssim.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace sparse3d {

namespace {

template <class... Shape>
using In = nb::ndarray<const float, Shape..., nb::c_contig, nb::device::cpu>;
template <class... Shape>
using Out = nb::ndarray<float, Shape..., nb::c_contig, nb::device::cpu>;

using InVector = In<nb::ndim<1>>;
using InRows = In<nb::ndim<2>>;
using InStack = In<nb::ndim<3>>;
using InImages = In<nb::shape<-1, -1, -1, 3>>;
using InPixels = In<nb::shape<-1, -1, 3>>;
using InPlanes = In<nb::shape<3, -1, -1>>;
using InMask = nb::ndarray<const uint8_t, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using OutVector = Out<nb::ndim<1>>;
using OutRows = Out<nb::ndim<2>>;
using OutStack = Out<nb::ndim<3>>;
using OutImages = Out<nb::shape<-1, -1, -1, 3>>;
using OutPixels = Out<nb::shape<-1, -1, 3>>;

template <class Array>
void check(const char* name, const Array& array, std::initializer_list<int64_t> shape) {
    bool good = array.ndim() == shape.size();
    std::string wanted, found;
    size_t axis = 0;
    for (const int64_t size : shape) {
        good = good && (size < 0 || static_cast<int64_t>(array.shape(axis)) == size);
        wanted += (axis++ ? ", " : "") + std::to_string(size);
    }
    for (size_t k = 0; k < array.ndim(); ++k) found += (k ? ", " : "") + std::to_string(array.shape(k));
    if (!good) throw std::invalid_argument(std::string(name) + " is (" + found + "), needed (" + wanted + ")");
}

Gaussians make_gaussians(const InRows& means, const InRows& quats, const InRows& scales, const InVector& opacities,
                         const InRows& colors, int sh_degree) {
    const int64_t count = static_cast<int64_t>(means.shape(0));
    check("means", means, {count, 3});
    check("quats", quats, {count, 4});
    check("scales", scales, {count, 3});
    check("opacities", opacities, {count});
    check("colors", colors, {count, -1});
    if (sh_degree < -1 || sh_degree > 3) throw std::invalid_argument("sh_degree must be 0 to 3, or -1 for plain colours");
    const int64_t needed = sh_degree < 0 ? 3 : 3 * (sh_degree + 1) * (sh_degree + 1);
    const int64_t stride = static_cast<int64_t>(colors.shape(1));
    if (sh_degree < 0 ? stride != needed : stride < needed) throw std::invalid_argument("colors has too few or too many columns");
    if (count >= int64_t{1} << 31) throw std::invalid_argument("more than 2^31 Gaussians");
    return {means.data(),  quats.data(), scales.data(), opacities.data(),
            colors.data(), count,        static_cast<int>(stride), sh_degree};
}

Context py_forward(InRows means, InRows quats, InRows scales, InVector opacities, InRows colors, InStack viewmats, InStack Ks,
                   InVector background, int sh_degree, float near_plane, float far_plane, float eps2d, bool antialiased,
                   OutImages rgb, OutStack alpha, OutStack depth, OutStack median, bool keep, int threads) {
    const Gaussians gaussians = make_gaussians(means, quats, scales, opacities, colors, sh_degree);
    const int64_t views = static_cast<int64_t>(viewmats.shape(0));
    const int64_t height = static_cast<int64_t>(alpha.shape(1)), width = static_cast<int64_t>(alpha.shape(2));
    check("viewmats", viewmats, {views, 4, 4});
    check("Ks", Ks, {views, 3, 3});
    check("background", background, {3});
    check("rgb", rgb, {views, height, width, 3});
    check("alpha", alpha, {views, height, width});
    check("depth", depth, {views, height, width});
    check("median", median, {views, height, width});
    if (width > 65536 || height > 65536) throw std::invalid_argument("images may have at most 65536 pixels on a side");
    if (!(near_plane > 0.0f)) throw std::invalid_argument("near_plane must be positive");
    if (threads < 1) throw std::invalid_argument("threads must be at least 1");
    const Cameras cameras = {viewmats.data(), Ks.data(), views, static_cast<int>(width), static_cast<int>(height),
                             near_plane,      far_plane, eps2d, antialiased, background.data()};
    const Images images = {rgb.data(), alpha.data(), depth.data(), median.data()};
    nb::gil_scoped_release unlocked;
    return forward(gaussians, cameras, images, keep, threads);
}

void py_backward(const Context& context, InRows means, InRows quats, InRows scales, InVector opacities, InRows colors,
                 int sh_degree, InImages rgb, InStack alpha, InStack depth, std::optional<InImages> grad_rgb,
                 std::optional<InStack> grad_alpha, std::optional<InStack> grad_depth, OutRows grad_means,
                 OutRows grad_quats, OutRows grad_scales, OutVector grad_opacities, OutRows grad_colors,
                 OutStack grad_viewmats, OutVector grad_background, int threads) {
    const Gaussians gaussians = make_gaussians(means, quats, scales, opacities, colors, sh_degree);
    if (gaussians.count != context.count) throw std::invalid_argument("the context is of another number of Gaussians");
    const int64_t views = static_cast<int64_t>(context.views.size());
    const int64_t height = views ? context.views[0].camera.height : static_cast<int64_t>(alpha.shape(1));
    const int64_t width = views ? context.views[0].camera.width : static_cast<int64_t>(alpha.shape(2));
    check("rgb", rgb, {views, height, width, 3});
    check("alpha", alpha, {views, height, width});
    check("depth", depth, {views, height, width});
    if (grad_rgb) check("grad_rgb", *grad_rgb, {views, height, width, 3});
    if (grad_alpha) check("grad_alpha", *grad_alpha, {views, height, width});
    if (grad_depth) check("grad_depth", *grad_depth, {views, height, width});
    check("grad_means", grad_means, {gaussians.count, 3});
    check("grad_quats", grad_quats, {gaussians.count, 4});
    check("grad_scales", grad_scales, {gaussians.count, 3});
    check("grad_opacities", grad_opacities, {gaussians.count});
    check("grad_colors", grad_colors, {gaussians.count, gaussians.color_stride});
    check("grad_viewmats", grad_viewmats, {views, 4, 4});
    check("grad_background", grad_background, {3});
    if (threads < 1) throw std::invalid_argument("threads must be at least 1");
    // the images are only read
    const Images images = {const_cast<float*>(rgb.data()), const_cast<float*>(alpha.data()),
                           const_cast<float*>(depth.data()), const_cast<float*>(alpha.data())};
    const ImageGradients image_gradients = {grad_rgb ? grad_rgb->data() : nullptr, grad_alpha ? grad_alpha->data() : nullptr,
                                            grad_depth ? grad_depth->data() : nullptr};
    const GaussianGradients gradients = {grad_means.data(), grad_quats.data(), grad_scales.data(), grad_opacities.data(),
                                         grad_colors.data()};
    nb::gil_scoped_release unlocked;
    backward(context, gaussians, images, image_gradients, gradients, grad_viewmats.data(), grad_background.data(), threads);
}

SsimTarget py_ssim_target(InPlanes image, int threads) {
    const int64_t height = static_cast<int64_t>(image.shape(1)), width = static_cast<int64_t>(image.shape(2));
    if (width < 1 || height < 1) throw std::invalid_argument("the target has no pixels");
    if (width > 65536 || height > 65536) throw std::invalid_argument("images may have at most 65536 pixels on a side");
    if (threads < 1) throw std::invalid_argument("threads must be at least 1");
    nb::gil_scoped_release unlocked;
    return make_ssim_target(image.data(), static_cast<int>(width), static_cast<int>(height), threads);
}

std::pair<double, double> py_photometric_loss(const SsimTarget& target, InPixels image, std::optional<InMask> mask,
                                              float ssim_weight, std::optional<OutPixels> gradient, int threads) {
    check("image", image, {target.height, target.width, 3});
    if (mask) check("mask", *mask, {target.height, target.width});
    if (gradient) check("gradient", *gradient, {target.height, target.width, 3});
    if (!(ssim_weight >= 0.0f && ssim_weight <= 1.0f)) throw std::invalid_argument("ssim_weight must be in [0, 1]");
    if (threads < 1) throw std::invalid_argument("threads must be at least 1");
    nb::gil_scoped_release unlocked;
    const PhotometricLoss loss = photometric_loss(target, image.data(), mask ? mask->data() : nullptr, ssim_weight,
                                                  gradient ? gradient->data() : nullptr, threads);
    return {loss.l1, loss.dissimilarity};
}

}  // namespace

NB_MODULE(_cpu, m) {
    m.doc() = "Compiled Gaussian splatting; use it through sparse3d.kernels.cpu.";
    nb::set_leak_warnings(false);  // images that live until Python exits keep their context
    nb::class_<Context>(m, "Context", "What the gradient needs of a forward pass.");
    m.def("instruction_set", [] { return std::string(chosen_isa().name); },
          "Name of the instruction set in use. Raises ValueError if SPARSE3D_ISA names one that cannot run here.");
    m.def("instruction_sets", [] {
        std::vector<std::string> names;
        for (const char* const* name = runnable_isas(); *name != nullptr; ++name) names.emplace_back(*name);
        return names;
    }, "Names that SPARSE3D_ISA may have on this CPU, narrowest first.");
    m.def("forward", &py_forward, "means"_a.noconvert(), "quats"_a.noconvert(), "scales"_a.noconvert(),
          "opacities"_a.noconvert(), "colors"_a.noconvert(), "viewmats"_a.noconvert(), "Ks"_a.noconvert(),
          "background"_a.noconvert(), "sh_degree"_a, "near_plane"_a, "far_plane"_a, "eps2d"_a, "antialiased"_a,
          "rgb"_a.noconvert(), "alpha"_a.noconvert(), "depth"_a.noconvert(), "median"_a.noconvert(), "keep"_a, "threads"_a,
          "Fills rgb, alpha, depth and median. sh_degree is -1 for plain colours; colors is (N, floats of one Gaussian).");
    m.def("backward", &py_backward, "context"_a, "means"_a.noconvert(), "quats"_a.noconvert(), "scales"_a.noconvert(),
          "opacities"_a.noconvert(), "colors"_a.noconvert(), "sh_degree"_a, "rgb"_a.noconvert(), "alpha"_a.noconvert(),
          "depth"_a.noconvert(), "grad_rgb"_a.noconvert().none(), "grad_alpha"_a.noconvert().none(),
          "grad_depth"_a.noconvert().none(), "grad_means"_a.noconvert(), "grad_quats"_a.noconvert(),
          "grad_scales"_a.noconvert(), "grad_opacities"_a.noconvert(), "grad_colors"_a.noconvert(),
          "grad_viewmats"_a.noconvert(), "grad_background"_a.noconvert(), "threads"_a,
          "Sets the grad_ arrays of the Gaussians, view matrices and background.");
    nb::class_<SsimTarget>(m, "SsimTarget", "A target image and its window means.");
    m.def("ssim_target", &py_ssim_target, "image"_a.noconvert(), "threads"_a, "From an image (3, H, W).");
    m.def("photometric_loss", &py_photometric_loss, "target"_a, "image"_a.noconvert(), "mask"_a.noconvert().none(),
          "ssim_weight"_a, "gradient"_a.noconvert().none(), "threads"_a,
          "Mean L1 and mean 1 - SSIM of an image (H, W, 3); sets gradient (H, W, 3), that of (1 - w) L1 + w (1 - SSIM). "
          "1 - SSIM is not computed, and 0, when ssim_weight is 0.");
}

}  // namespace sparse3d
