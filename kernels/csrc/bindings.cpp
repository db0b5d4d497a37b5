#include "bind.h"
#include "buffer.h"
#include "isa.h"

namespace sparse3d {

namespace {

struct Block {
    void* memory;
    size_t bytes;
};

nb::ndarray<nb::pytorch, float> py_empty(const std::vector<size_t>& shape) {
    size_t bytes = sizeof(float);
    for (const size_t size : shape)
        if (__builtin_mul_overflow(bytes, size, &bytes)) throw std::invalid_argument("shape is larger than the address space");
    if (bytes == 0) bytes = sizeof(float);
    void* const memory = take_block(bytes);
    const nb::capsule owner(new Block{memory, bytes}, [](void* pointer) noexcept {
        const Block* const block = static_cast<Block*>(pointer);
        give_back_block(block->memory, block->bytes);
        delete block;
    });
    return nb::ndarray<nb::pytorch, float>(memory, shape.size(), shape.data(), owner);
}

std::string list_of(const int64_t* numbers, size_t count) {
    std::string list;
    for (size_t k = 0; k < count; ++k) list += (k ? ", " : "") + (numbers[k] < 0 ? std::string("any") : std::to_string(numbers[k]));
    return "(" + list + ")";
}

std::string name_of(nb::dlpack::dtype dtype) {
    static const char* const kinds[] = {"int", "uint", "float", "handle", "bfloat", "complex", "bool"};
    return (dtype.code < 7 ? kinds[dtype.code] : "another ") + std::to_string(dtype.bits);
}

// Strides of axes along which there is one element, or none at all, are of no account.
bool is_contiguous(const nb::dlpack::dltensor& array) {
    int64_t step = 1;
    bool good = true;
    for (int32_t axis = array.ndim - 1; axis >= 0; --axis) {
        if (array.shape[axis] == 0) return true;
        good = good && (array.shape[axis] == 1 || array.strides[axis] == step);
        step *= array.shape[axis];
    }
    return good;
}

}  // namespace

void check_array(const char* name, const nb::dlpack::dltensor& array, nb::dlpack::dtype dtype,
                 std::initializer_list<int64_t> shape) {
    const size_t ndim = static_cast<size_t>(array.ndim);
    bool fits = ndim == shape.size();
    for (size_t axis = 0; fits && axis < ndim; ++axis)
        fits = shape.begin()[axis] < 0 || array.shape[axis] == shape.begin()[axis];
    const bool on_cpu = array.device.device_type == nb::device::cpu::value;
    if (fits && on_cpu && array.dtype == dtype && is_contiguous(array)) return;
    throw std::invalid_argument(std::string(name) + " is " + list_of(array.shape, ndim) + " of " + name_of(array.dtype) +
                                (is_contiguous(array) ? "" : " with strides " + list_of(array.strides, ndim)) +
                                (on_cpu ? "" : " on another device") + ", needed " + list_of(shape.begin(), shape.size()) +
                                " of " + name_of(dtype) + ", contiguous, on the CPU");
}

NB_MODULE(_cpu, m) {
    m.doc() = "The kernels for CPUs; use them through sparse3d.kernels.cpu and its neighbours.";
    nb::set_leak_warnings(false);  // images that live until Python exits keep their context
    m.def("instruction_set", [] { return std::string(chosen_isa().name); },
          "Name of the instruction set in use. Raises ValueError if SPARSE3D_ISA names one that cannot run here.");
    m.def("instruction_sets", [] {
        std::vector<std::string> names;
        for (const char* const* name = runnable_isas(); *name != nullptr; ++name) names.emplace_back(*name);
        return names;
    }, "Names that SPARSE3D_ISA may have on this CPU, narrowest first.");
    m.def("empty", &py_empty, "shape"_a, "A tensor that is not cleared, in memory that is used again for the next one.");
    bind_update(m);
    bind_raster(m);
    bind_ssim(m);
    bind_sweep(m);
    bind_warp(m);
}

}  // namespace sparse3d
