#include <array>
#include <cmath>

#include "adam.h"
#include "bind_raster.h"

namespace sparse3d {

namespace {

using Tensors = std::array<Out, kParameters>;
using Rates = std::array<In, kParameters>;

constexpr const char* kNames[kParameters] = {"means", "quats", "log_scales", "logit_opacities", "sh"};

// One of the parameters with its two means and rates, of which the first bias correction is taken.
AdamTensor make_tensor(Parameter parameter, const Tensors& values, const Tensors& means, const Tensors& squares, const Rates& rates,
                       double correction) {
    const Out& value = values[parameter];
    const int64_t rows = size(value, 0), floats = value.ndim() == 1 ? 1 : size(value, 1);
    const auto array = [&](const char* of, const Out& out) {
        const std::string name = std::string(of) + " of " + kNames[parameter];
        return value.ndim() == 1 ? data<float>(name.c_str(), out, {rows}) : data<float>(name.c_str(), out, {rows, floats});
    };
    float* const numbers = array("values", value);
    need(floats <= kMostRowFloats, std::string(kNames[parameter]) + " has " + std::to_string(floats) + " numbers in a row, needed " +
                                       std::to_string(kMostRowFloats) + " or fewer");
    const std::string name = std::string("rates of ") + kNames[parameter];
    const float* const given = data<const float>(name.c_str(), rates[parameter], {floats});
    float corrected[kMostRowFloats];
    for (int64_t k = 0; k < floats; ++k) corrected[k] = static_cast<float>(given[k] / correction);
    return adam_tensor(numbers, array("mean", means[parameter]), array("square", squares[parameter]), corrected,
                       static_cast<int>(floats));
}

void py_update(const Context& context, Tensors values, Tensors means, Tensors squares, Rates rates, int sh_degree,
               std::optional<In> kept, float kept_factor, In rgb, In alpha, In grad_rgb, double beta1, double beta2,
               int64_t step, float eps, std::optional<In> opacity_decay, int threads) {
    const Gaussians gaussians = make_raw_gaussians(In(values[kMeans]), In(values[kQuats]), In(values[kLogScales]),
                                                   In(values[kLogitOpacities]), In(values[kCoefficients]), sh_degree, kept,
                                                   kept_factor);
    need(gaussians.count == context.count, "context is of " + std::to_string(context.count) + " Gaussians, means of " +
                                               std::to_string(gaussians.count));
    need(context.views.size() == 1, "context is of " + std::to_string(context.views.size()) +
                                        " views, needed 1; forward keeps them only with keep");
    const Images images = rendered_images(context, rgb, alpha, std::nullopt);
    ImageGradients image_gradients = {};
    image_gradients.rgb = data<const float>("grad_rgb", grad_rgb, {1, size(alpha, 1), size(alpha, 2), 3});
    need(beta1 >= 0 && beta1 < 1, "beta1 is " + std::to_string(beta1) + ", needed 0 to below 1");
    need(beta2 >= 0 && beta2 < 1, "beta2 is " + std::to_string(beta2) + ", needed 0 to below 1");
    need(step >= 1, "step is " + std::to_string(step) + ", needed 1 or more");
    need(eps > 0.0f, "eps is " + std::to_string(eps) + ", needed a number above 0");
    check_threads(threads);
    AdamTask task = {};
    if (opacity_decay) task.opacity_decay = data<const float>("opacity_decay", *opacity_decay, {gaussians.count});
    const double correction = 1 - std::pow(beta1, static_cast<double>(step));
    for (int k = 0; k < kParameters; ++k)
        task.tensors[k] = make_tensor(static_cast<Parameter>(k), values, means, squares, rates, correction);
    task.kept1 = static_cast<float>(beta1);
    task.fresh1 = static_cast<float>(1 - beta1);
    task.kept2 = static_cast<float>(beta2);
    task.fresh2 = static_cast<float>(1 - beta2);
    task.root_scale = static_cast<float>(1 / std::sqrt(1 - std::pow(beta2, static_cast<double>(step))));
    task.eps = eps;
    const Isa& isa = chosen_isa();
    nb::gil_scoped_release unlocked;
    update(isa, context, gaussians, images, image_gradients, task, threads);
}

}  // namespace

void bind_update(nb::module_& m) {
    m.def("update", &py_update, "context"_a, "values"_a.noconvert(), "means"_a.noconvert(), "squares"_a.noconvert(),
          "rates"_a.noconvert(), "sh_degree"_a, "kept"_a.noconvert().none(), "kept_factor"_a, "rgb"_a.noconvert(),
          "alpha"_a.noconvert(), "grad_rgb"_a.noconvert(), "beta1"_a, "beta2"_a, "step"_a, "eps"_a,
          "opacity_decay"_a.noconvert().none(), "threads"_a,
          "One step of Adam, in place, of the Gaussians that forward drew before their activation. values, their running means "
          "and mean squares, and the rates of a row of each: means, quats, log_scales, logit_opacities and sh (N, floats).");
}

}  // namespace sparse3d
