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

}  // namespace

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
    bind_adam(m);
    bind_raster(m);
    bind_ssim(m);
    bind_sweep(m);
    bind_warp(m);
}

}  // namespace sparse3d
