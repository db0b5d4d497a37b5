// What the files of the Python module sparse3d.kernels._cpu share. Only kernels/cpu*.py call it: arrays go in as they are
// (.noconvert()) and gradients pass through their torch.autograd.Functions.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/array.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <initializer_list>
#include <stdexcept>
#include <string>
#include <type_traits>

namespace nb = nanobind;
using namespace nb::literals;

namespace sparse3d {

void bind_raster(nb::module_& m);
void bind_ssim(nb::module_& m);
void bind_sweep(nb::module_& m);
void bind_update(nb::module_& m);
void bind_warp(nb::module_& m);

// Arrays of any kind, so that `data` can say which argument is wrong and how: what nanobind checks ends in a TypeError that
// lists whole signatures.
using In = nb::ndarray<nb::ro>;
using Out = nb::ndarray<>;

// Throws std::invalid_argument unless the array is of this type and shape (-1 stands for any size), contiguous, on the CPU.
void check_array(const char* name, const nb::dlpack::dltensor& array, nb::dlpack::dtype dtype,
                 std::initializer_list<int64_t> shape);

// The numbers of an array that check_array accepts.
template <class T, class Array>
T* data(const char* name, const Array& array, std::initializer_list<int64_t> shape) {
    static_assert(std::is_const_v<T> || !Array::ReadOnly, "an input is only read");
    nb::dlpack::dltensor described = {};
    described.device.device_type = array.device_type();
    described.dtype = array.dtype();
    described.ndim = static_cast<int32_t>(array.ndim());
    described.shape = const_cast<int64_t*>(array.shape_ptr());  // only read
    described.strides = const_cast<int64_t*>(array.stride_ptr());
    check_array(name, described, nb::dtype<T>(), shape);
    return static_cast<T*>(array.data());
}
// Null where the argument is None.
template <class T, class Array>
T* data(const char* name, const std::optional<Array>& array, std::initializer_list<int64_t> shape) {
    return array ? data<T>(name, *array, shape) : nullptr;
}

template <class Array>
int64_t size(const Array& array, size_t axis) {
    return static_cast<int64_t>(array.shape(axis));
}

// Throws std::invalid_argument that begins with the name of the argument.
inline void need(bool good, const std::string& message) {
    if (!good) throw std::invalid_argument(message);
}

inline void check_threads(int threads) {
    need(threads >= 1 && threads <= 65536, "threads is " + std::to_string(threads) + ", needed 1 to 65536");
}

inline void check_image_size(const char* name, int64_t width, int64_t height, int64_t least) {
    need(width >= least && width <= 65536 && height >= least && height <= 65536,
         std::string(name) + " has " + std::to_string(width) + " x " + std::to_string(height) + " pixels, needed " +
             std::to_string(least) + " to 65536 on each side");
}

}  // namespace sparse3d
