#include "bind_raster.h"

#include <cmath>

namespace sparse3d {

Gaussians make_gaussians(const In& means, const In& quats, const In& scales, const In& opacities, const In& colors,
                         int sh_degree) {
    Gaussians gaussians = {};
    gaussians.means = data<const float>("means", means, {-1, 3});
    const int64_t count = size(means, 0);
    need(count < int64_t{1} << 31, "means has 2^31 rows or more");
    gaussians.count = count;
    gaussians.quats = data<const float>("quats", quats, {count, 4});
    gaussians.scales = data<const float>("scales", scales, {count, 3});
    gaussians.opacities = data<const float>("opacities", opacities, {count});
    need(sh_degree >= -1 && sh_degree <= 3, "sh_degree is " + std::to_string(sh_degree) + ", needed 0 to 3, or -1 for plain colours");
    gaussians.sh_degree = sh_degree;
    gaussians.colors = data<const float>("colors", colors, {count, -1});
    const int64_t columns = size(colors, 1), needed = sh_degree < 0 ? 3 : 3 * (sh_degree + 1) * (sh_degree + 1);
    need(sh_degree < 0 ? columns == needed : columns >= needed && columns <= 65536,
         "colors has " + std::to_string(columns) + " columns, needed " + std::to_string(needed) +
             (sh_degree < 0 ? "" : " to 65536"));
    gaussians.color_stride = static_cast<int>(columns);
    gaussians.kept_factor = 1.0f;
    return gaussians;
}

Gaussians make_raw_gaussians(const In& means, const In& quats, const In& log_scales, const In& logit_opacities, const In& sh,
                             int sh_degree, const std::optional<In>& kept, float kept_factor) {
    need(sh_degree >= 0, "sh_degree is " + std::to_string(sh_degree) + ", needed 0 to 3");
    need(kept_factor >= 1.0f && std::isfinite(kept_factor), "kept_factor is " + std::to_string(kept_factor) + ", needed 1 or more");
    Gaussians gaussians = make_gaussians(means, quats, log_scales, logit_opacities, sh, sh_degree);
    gaussians.before_activation = true;
    gaussians.kept = data<const uint8_t>("kept", kept, {gaussians.count});
    gaussians.kept_factor = kept_factor;
    return gaussians;
}

Images rendered_images(const Context& context, const In& rgb, const In& alpha, const std::optional<In>& depth) {
    const int64_t views = static_cast<int64_t>(context.views.size());
    data<const float>("alpha", alpha, {views, -1, -1});
    const int64_t height = views ? context.views[0].camera.height : size(alpha, 1);
    const int64_t width = views ? context.views[0].camera.width : size(alpha, 2);
    // the images are only read
    Images images = {};
    images.rgb = const_cast<float*>(data<const float>("rgb", rgb, {views, height, width, 3}));
    images.alpha = const_cast<float*>(data<const float>("alpha", alpha, {views, height, width}));
    images.depth = const_cast<float*>(data<const float>("depth", depth, {views, height, width}));
    return images;
}

namespace {

Context py_forward(In means, In quats, In scales, In opacities, In colors, In viewmats, In Ks, In background, int sh_degree,
                   float near_plane, float far_plane, float eps2d, bool antialiased, Out rgb, Out alpha,
                   std::optional<Out> depth, std::optional<Out> median, bool keep, bool before_activation,
                   std::optional<In> kept, float kept_factor, int threads) {
    need(before_activation || !kept, "kept is for Gaussians before their activation");
    const Gaussians gaussians =
        before_activation ? make_raw_gaussians(means, quats, scales, opacities, colors, sh_degree, kept, kept_factor)
                          : make_gaussians(means, quats, scales, opacities, colors, sh_degree);
    Cameras cameras = {};
    cameras.viewmats = data<const float>("viewmats", viewmats, {-1, 4, 4});
    const int64_t views = cameras.count = size(viewmats, 0);
    cameras.intrinsics = data<const float>("Ks", Ks, {views, 3, 3});
    cameras.background = data<const float>("background", background, {3});
    Images images = {};
    images.alpha = data<float>("alpha", alpha, {views, -1, -1});
    const int64_t height = size(alpha, 1), width = size(alpha, 2);
    check_image_size("alpha", width, height, 0);
    images.rgb = data<float>("rgb", rgb, {views, height, width, 3});
    images.depth = data<float>("depth", depth, {views, height, width});
    images.median = data<float>("median", median, {views, height, width});
    need(depth.has_value() == median.has_value(), "depth and median are only drawn together; give both or None for both");
    need(near_plane > 0.0f && std::isfinite(near_plane), "near_plane must be positive and finite");
    need(far_plane > near_plane, "far_plane must be beyond near_plane");
    need(eps2d >= 0.0f && std::isfinite(eps2d), "eps2d must be 0 or more and finite");
    check_threads(threads);
    cameras.width = static_cast<int>(width);
    cameras.height = static_cast<int>(height);
    cameras.near_plane = near_plane;
    cameras.far_plane = far_plane;
    cameras.eps2d = eps2d;
    cameras.antialiased = antialiased;
    const Isa& isa = chosen_isa();
    nb::gil_scoped_release unlocked;
    return forward(isa, gaussians, cameras, images, keep, threads);
}

void py_backward(const Context& context, In means, In quats, In scales, In opacities, In colors, int sh_degree, In rgb,
                 In alpha, In depth, std::optional<In> grad_rgb, std::optional<In> grad_alpha, std::optional<In> grad_depth,
                 Out grad_means, Out grad_quats, Out grad_scales, Out grad_opacities, Out grad_colors, Out grad_viewmats,
                 Out grad_background, int threads) {
    const Gaussians gaussians = make_gaussians(means, quats, scales, opacities, colors, sh_degree);
    const int64_t count = gaussians.count, views = static_cast<int64_t>(context.views.size());
    need(count == context.count, "context is of " + std::to_string(context.count) + " Gaussians, means of " + std::to_string(count));
    float* const to_viewmats = data<float>("grad_viewmats", grad_viewmats, {-1, 4, 4});
    need(views == size(grad_viewmats, 0), "context is of " + std::to_string(views) + " views, grad_viewmats of " +
                                              std::to_string(size(grad_viewmats, 0)) + "; forward keeps them only with keep");
    const Images images = rendered_images(context, rgb, alpha, depth);
    const int64_t height = size(alpha, 1), width = size(alpha, 2);
    ImageGradients image_gradients = {};
    image_gradients.rgb = data<const float>("grad_rgb", grad_rgb, {views, height, width, 3});
    image_gradients.alpha = data<const float>("grad_alpha", grad_alpha, {views, height, width});
    image_gradients.depth = data<const float>("grad_depth", grad_depth, {views, height, width});
    GaussianGradients gradients = {};
    gradients.means = data<float>("grad_means", grad_means, {count, 3});
    gradients.quats = data<float>("grad_quats", grad_quats, {count, 4});
    gradients.scales = data<float>("grad_scales", grad_scales, {count, 3});
    gradients.opacities = data<float>("grad_opacities", grad_opacities, {count});
    gradients.colors = data<float>("grad_colors", grad_colors, {count, gaussians.color_stride});
    float* const to_background = data<float>("grad_background", grad_background, {3});
    check_threads(threads);
    const Isa& isa = chosen_isa();
    nb::gil_scoped_release unlocked;
    backward(isa, context, gaussians, images, image_gradients, gradients, to_viewmats, to_background, threads);
}

}  // namespace

void bind_raster(nb::module_& m) {
    nb::class_<Context>(m, "Context", "What the gradient needs of a forward pass.")
        .def("pairs", &Context::pairs, "How many pairs of a Gaussian and a pixel were looked at.");
    m.def("forward", &py_forward, "means"_a.noconvert(), "quats"_a.noconvert(), "scales"_a.noconvert(),
          "opacities"_a.noconvert(), "colors"_a.noconvert(), "viewmats"_a.noconvert(), "Ks"_a.noconvert(),
          "background"_a.noconvert(), "sh_degree"_a, "near_plane"_a, "far_plane"_a, "eps2d"_a, "antialiased"_a,
          "rgb"_a.noconvert(), "alpha"_a.noconvert(), "depth"_a.noconvert().none(), "median"_a.noconvert().none(), "keep"_a,
          "before_activation"_a, "kept"_a.noconvert().none(), "kept_factor"_a, "threads"_a,
          "Fills rgb, alpha and, where they are given, depth and median. sh_degree is -1 for plain colours; colors is (N, "
          "floats of one Gaussian). Before their activation, scales are logarithms and opacities logits; those where kept is 0 are left out, the opacities of "
          "the others multiplied by kept_factor.");
    m.def("backward", &py_backward, "context"_a, "means"_a.noconvert(), "quats"_a.noconvert(), "scales"_a.noconvert(),
          "opacities"_a.noconvert(), "colors"_a.noconvert(), "sh_degree"_a, "rgb"_a.noconvert(), "alpha"_a.noconvert(),
          "depth"_a.noconvert(), "grad_rgb"_a.noconvert().none(), "grad_alpha"_a.noconvert().none(),
          "grad_depth"_a.noconvert().none(), "grad_means"_a.noconvert(), "grad_quats"_a.noconvert(),
          "grad_scales"_a.noconvert(), "grad_opacities"_a.noconvert(), "grad_colors"_a.noconvert(),
          "grad_viewmats"_a.noconvert(), "grad_background"_a.noconvert(), "threads"_a,
          "Sets the grad_ arrays of the Gaussians, view matrices and background.");
}

}  // namespace sparse3d
