#include "bind.h"
#include "raster.h"

namespace sparse3d {

namespace {

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
    check_threads(threads);
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
    check_threads(threads);
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

}  // namespace

void bind_raster(nb::module_& m) {
    nb::class_<Context>(m, "Context", "What the gradient needs of a forward pass.")
        .def("pairs", &Context::pairs, "How many pairs of a Gaussian and a pixel were looked at.");
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
}

}  // namespace sparse3d
