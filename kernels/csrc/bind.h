// What the files of the Python module sparse3d.kernels._cpu share. Only kernels/cpu*.py call it: arrays go in as they are
// (.noconvert()) and gradients pass through their torch.autograd.Functions.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <initializer_list>
#include <stdexcept>
#include <string>

namespace nb = nanobind;
using namespace nb::literals;

namespace sparse3d {

void bind_adam(nb::module_& m);
void bind_raster(nb::module_& m);
void bind_ssim(nb::module_& m);
void bind_sweep(nb::module_& m);
void bind_warp(nb::module_& m);

template <class... Shape>
using In = nb::ndarray<const float, Shape..., nb::c_contig, nb::device::cpu>;
template <class... Shape>
using Out = nb::ndarray<float, Shape..., nb::c_contig, nb::device::cpu>;

using InVector = In<nb::ndim<1>>;
using InRows = In<nb::ndim<2>>;
using InStack = In<nb::ndim<3>>;
using InImages = In<nb::shape<-1, -1, -1, 3>>;
using InPlanes = In<nb::shape<3, -1, -1>>;
using InPixels = In<nb::shape<-1, -1, 3>>;
using InTransfers = nb::ndarray<const double, nb::shape<-1, 3, 4>, nb::c_contig, nb::device::cpu>;
using OutVector = Out<nb::ndim<1>>;
using OutRows = Out<nb::ndim<2>>;
using OutStack = Out<nb::ndim<3>>;
using OutImages = Out<nb::shape<-1, -1, -1, 3>>;
using OutPlanes = Out<nb::shape<3, -1, -1>>;
using OutPixels = Out<nb::shape<-1, -1, 3>>;

// Throws std::invalid_argument unless `array` has this shape; -1 stands for any size.
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

inline void check_threads(int threads) {
    if (threads < 1) throw std::invalid_argument("threads must be at least 1");
}

}  // namespace sparse3d
