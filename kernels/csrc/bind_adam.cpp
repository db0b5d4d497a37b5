#include "adam.h"
#include "bind.h"

namespace sparse3d {

namespace {

using InFlags = nb::ndarray<const uint8_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;

void py_selective_adam(OutRows values, InRows gradient, OutRows mean, OutRows square, InVector rates, InFlags drawn,
                       double beta1, double beta2, float root_scale, float eps, int threads) {
    const int64_t rows = static_cast<int64_t>(values.shape(0)), floats = static_cast<int64_t>(values.shape(1));
    check("gradient", gradient, {rows, floats});
    check("mean", mean, {rows, floats});
    check("square", square, {rows, floats});
    check("rates", rates, {floats});
    check("drawn", drawn, {rows});
    if (floats > kMostRowFloats) throw std::invalid_argument("values has more than 64 numbers in a row");
    if (!(eps > 0.0f)) throw std::invalid_argument("eps must be positive");
    check_threads(threads);
    if (floats == 0) return;
    const AdamTask task = {values.data(), gradient.data(), mean.data(), square.data(), rates.data(), drawn.data(),
                           static_cast<int>(floats), static_cast<float>(beta1), static_cast<float>(1 - beta1),
                           static_cast<float>(beta2), static_cast<float>(1 - beta2), root_scale, eps};
    nb::gil_scoped_release unlocked;
    selective_adam(task, rows, threads);
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
