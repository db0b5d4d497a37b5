#include "adam.h"
#include "bind.h"

namespace sparse3d {

namespace {

void py_selective_adam(Out values, In gradient, Out mean, Out square, In rates, In drawn, double beta1, double beta2,
                       float root_scale, float eps, int threads) {
    AdamTask task = {};
    task.values = data<float>("values", values, {-1, -1});
    const int64_t rows = size(values, 0), floats = size(values, 1);
    need(floats <= kMostRowFloats, "values has " + std::to_string(floats) + " numbers in a row, needed 64 or fewer");
    task.gradient = data<const float>("gradient", gradient, {rows, floats});
    task.mean = data<float>("mean", mean, {rows, floats});
    task.square = data<float>("square", square, {rows, floats});
    task.rates = data<const float>("rates", rates, {floats});
    task.drawn = data<const uint8_t>("drawn", drawn, {rows});
    task.floats = static_cast<int>(floats);
    need(beta1 >= 0 && beta1 < 1, "beta1 is " + std::to_string(beta1) + ", needed 0 to below 1");
    need(beta2 >= 0 && beta2 < 1, "beta2 is " + std::to_string(beta2) + ", needed 0 to below 1");
    need(root_scale > 0.0f, "root_scale is " + std::to_string(root_scale) + ", needed a number above 0");
    need(eps > 0.0f, "eps is " + std::to_string(eps) + ", needed a number above 0");
    check_threads(threads);
    task.kept1 = static_cast<float>(beta1);
    task.fresh1 = static_cast<float>(1 - beta1);
    task.kept2 = static_cast<float>(beta2);
    task.fresh2 = static_cast<float>(1 - beta2);
    task.root_scale = root_scale;
    task.eps = eps;
    if (floats == 0) return;
    const Isa& isa = chosen_isa();
    nb::gil_scoped_release unlocked;
    selective_adam(isa, task, rows, threads);
}

}  // namespace

void bind_adam(nb::module_& m) {
    m.def("selective_adam", &py_selective_adam, "values"_a.noconvert(), "gradient"_a.noconvert(), "mean"_a.noconvert(),
          "square"_a.noconvert(), "rates"_a.noconvert(), "drawn"_a.noconvert(), "beta1"_a, "beta2"_a, "root_scale"_a,
          "eps"_a, "threads"_a,
          "One step, in place, of the rows that are drawn. rates has the first bias correction in it, root_scale is the "
          "second, 1 / sqrt(1 - beta2^step).");
}

}  // namespace sparse3d
