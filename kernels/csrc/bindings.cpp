#include "bind.h"
#include "isa.h"

namespace sparse3d {

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
    bind_raster(m);
    bind_ssim(m);
    bind_sweep(m);
    bind_warp(m);
}

}  // namespace sparse3d
