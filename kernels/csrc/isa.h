// The stages that are compiled once per instruction set, and the choice between them at run time.
//
// isa_scalar.cpp, isa_avx2.cpp and isa_avx512.cpp include the same lanes_*.h, where everything is in an anonymous
// namespace: if they instantiated shared inline functions (the STL, nanobind), the linker could keep the AVX copy for
// everyone, and the scalar path would crash on older CPUs.
#pragma once

#include "layout.h"
#include "layout_adam.h"
#include "layout_sweep.h"
#include "layout_warp.h"

namespace sparse3d {

struct Isa {
    const char* name;
    // Gaussians [begin, end), at most kBlock of them; `splats` and `boxes` are padded by kMostLanes.
    void (*project_forward)(const Gaussians&, const Camera&, int64_t begin, int64_t end, Splat*, const RegionBoxes&);
    // Also sums the slots of each Gaussian; `set` writes the gradients instead of adding to them, and `camera_sums` gets
    // the kCameraSums sums of this block.
    void (*project_backward)(const Gaussians&, const Camera&, int64_t begin, int64_t end, const SlotTable&, bool set,
                             const GaussianGradients&, float* camera_sums);
    // One region: how many entries its tile lists may come to; then, with room for them, the lists, of which it returns the
    // entries there are; its picture; and the gradient.
    uint64_t (*list_rows)(const BlendTask&, int64_t region, RegionScratch&);
    uint64_t (*list_tiles)(const BlendTask&, int64_t region, RegionScratch&);
    void (*blend_forward)(const BlendTask&, int64_t region);
    void (*blend_backward)(const BlendTask&, int64_t region);
    // The same instead of project_backward, in training: nothing writes the gradients, the Gaussians themselves move.
    void (*update)(const Gaussians&, const Camera&, int64_t begin, int64_t end, const SlotTable&, const AdamTask&);
    // Tiles of the loss, [begin, end): the target's window means; sums and gradient.
    void (*loss_target)(const LossTask&, int64_t begin, int64_t end);
    void (*loss)(const LossTask&, int64_t begin, int64_t end);
    // Pieces or rows of a plane sweep and lines of semi-global matching, [begin, end), each with its own scratch memory.
    void (*zncc)(const ZnccTask&, int64_t begin, int64_t end, float* scratch);
    void (*census)(const CensusTask&, int64_t begin, int64_t end, float* scratch);
    void (*correlate)(const CorrelateTask&, int64_t begin, int64_t end, float* scratch);
    void (*aggregate)(const AggregateTask&, int64_t begin, int64_t end, float* scratch);
    // Rows of vertices and of their joints, rows of blocks of quads, fringe of corners, and tiles of the forward warp.
    void (*warp_vertices)(const WarpSource&, int64_t begin, int64_t end);
    void (*warp_joins)(const WarpSource&, int64_t begin, int64_t end);
    void (*warp_quads)(const WarpSource&, int64_t begin, int64_t end);
    int64_t (*warp_fringe)(const WarpSource&, const WarpCorner*, int count, FringeTriangle*);
    void (*warp_tiles)(const WarpTask&, int64_t begin, int64_t end, float* scratch);
};

extern const Isa isa_scalar;  // baseline of the architecture: SSE2 on x86-64, NEON on aarch64
#ifdef SPARSE3D_X86
extern const Isa isa_avx2;
extern const Isa isa_avx512;
#endif

// The widest one that this CPU runs, or the one named by the environment variable SPARSE3D_ISA (read at each call).
// Throws std::invalid_argument for a name that is unknown or that this CPU cannot run. To be called while holding Python's GIL:
// another thread of Python's may be changing the environment.
const Isa& chosen_isa();

// Names that SPARSE3D_ISA may have here, narrowest first; ends with null.
const char* const* runnable_isas();

}  // namespace sparse3d
