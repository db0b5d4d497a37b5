// The Python module sparse3d.kernels._cpu. Only kernels/cpu*.py call it: arrays go in as they are
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
#include "sweep.h"

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
using InTransfers = nb::ndarray<const double, nb::shape<-1, 3, 4>, nb::c_contig, nb::device::cpu>;
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

void py_zncc_sweep(InRows reference, const std::vector<InRows>& sources, InTransfers transfers, InVector depths,
                   int window, float noise, OutStack scores, int threads) {
    const auto grey = [](const char* name, const InRows& image) {
        const int64_t height = static_cast<int64_t>(image.shape(0)), width = static_cast<int64_t>(image.shape(1));
        if (width < 1 || height < 1) throw std::invalid_argument(std::string(name) + " has no pixels");
        if (width > 65536 || height > 65536 || width * height >= int64_t{1} << 31)
            throw std::invalid_argument(std::string(name) + " is over 65536 pixels on a side or 2^31 in all");
        return Grey{image.data(), static_cast<int>(width), static_cast<int>(height)};
    };
    const Grey view = grey("reference", reference);
    const int64_t planes = static_cast<int64_t>(depths.shape(0)), count = static_cast<int64_t>(sources.size());
    check("transfers", transfers, {count, 3, 4});
    check("scores", scores, {view.height, view.width, planes});
    if (count < 1) throw std::invalid_argument("no sources");
    if (planes < 1 || planes > 65536) throw std::invalid_argument("depths must hold 1 to 65536 planes");
    if (window % 2 == 0 || window < 1 || window > kSweepMostWindow)
        throw std::invalid_argument("window must be odd, 1 to 11");
    if (!(noise > 0.0f)) throw std::invalid_argument("noise must be positive");
    if (threads < 1) throw std::invalid_argument("threads must be at least 1");
    std::vector<SourceView> views;
    for (int64_t s = 0; s < count; ++s) {
        SourceView source = {grey("source", sources[s]), {}, {}};
        for (int row = 0; row < 3; ++row) {
            const double* const values = transfers.data() + 12 * s + 4 * row;
            for (int k = 0; k < 3; ++k) source.turn[3 * row + k] = values[k];
            source.shift[row] = values[3];
        }
        views.push_back(source);
    }
    nb::gil_scoped_release unlocked;
    zncc_sweep(view, views, depths.data(), static_cast<int>(planes), window, noise, scores.data(), threads);
}

void py_semi_global(InStack costs, InRows guide, float small, float large, float edge_weight, int paths, OutStack total,
                    int threads) {
    const int64_t height = static_cast<int64_t>(guide.shape(0)), width = static_cast<int64_t>(guide.shape(1));
    const int64_t planes = static_cast<int64_t>(costs.shape(2));
    check("costs", costs, {height, width, planes});
    check("total", total, {height, width, planes});
    if (width < 1 || height < 1 || planes < 1) throw std::invalid_argument("costs has no pixels or no planes");
    if (width > 65536 || height > 65536 || planes > 65536)
        throw std::invalid_argument("costs may be at most 65536 on a side");
    if (paths != 4 && paths != 8) throw std::invalid_argument("paths must be 4 or 8");
    if (threads < 1) throw std::invalid_argument("threads must be at least 1");
    AggregateTask prices = {};
    prices.width = static_cast<int>(width);
    prices.height = static_cast<int>(height);
    prices.planes = static_cast<int>(planes);
    prices.costs = costs.data();
    prices.guide = guide.data();
    prices.small = small;
    prices.large = large;
    prices.edge_weight = edge_weight;
    nb::gil_scoped_release unlocked;
    semi_global(prices, paths, total.data(), threads);
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
    m.def("zncc_sweep", &py_zncc_sweep, "reference"_a.noconvert(), "sources"_a.noconvert(), "transfers"_a.noconvert(),
          "depths"_a.noconvert(), "window"_a, "noise"_a, "scores"_a.noconvert(), "threads"_a,
          "Fills scores (H, W, D). transfers is (S, 3, 4): the source sees pixel (u, v) at depth z at homogeneous "
          "pixel z * transfer[:, :3] (u, v, 1) + transfer[:, 3]. noise is a variance.");
    m.def("semi_global", &py_semi_global, "costs"_a.noconvert(), "guide"_a.noconvert(), "small"_a, "large"_a,
          "edge_weight"_a, "paths"_a, "total"_a.noconvert(), "threads"_a,
          "Sets total (H, W, D) to costs (H, W, D) summed along 4 or 8 paths; the two must not overlap.");
}

}  // namespace sparse3d
