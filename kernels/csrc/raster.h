// The stages in their order, for all views of one call.
#pragma once

#include <vector>

#include "isa.h"
#include "regions.h"

namespace sparse3d {

// Memory for the tile lists that one worker makes: taken in pieces, given back all at once.
class Arena {
   public:
    uint32_t* reserve(uint64_t count);             // until it is called again, but for what is kept
    void keep(uint64_t count) { used_ += count; }  // the first of what was reserved
    void clear();

   private:
    std::vector<Buffer<uint32_t>> pieces_;
    uint64_t used_ = 0, size_ = 0;  // of the last piece
};

// What the gradient needs of one view's forward pass.
struct View {
    Camera camera;
    Members members;
    Buffer<Splat> splats;       // of each region, as in BlendTask
    Buffer<RegionLists> lists;  // (regions)
    std::vector<Arena> arenas;  // of the workers
};

// Of all views; kept by the autograd context of kernels/cpu.py.
struct Context {
    int64_t count = 0;
    std::vector<View> views;

    int64_t pairs() const;  // of a Gaussian and a pixel that were looked at

    Context() = default;
    Context(Context&&) = default;
    Context(const Context&) = delete;
};

// Arguments of reference.rasterize beside the Gaussians.
struct Cameras {
    const float *viewmats, *intrinsics;  // (V, 4, 4), (V, 3, 3)
    int64_t count;
    int width, height;
    float near_plane, far_plane, eps2d;
    bool antialiased;
    const float* background;  // (3)
};

struct Images {
    float *rgb, *alpha, *depth, *median;  // (V, H, W, 3) and (V, H, W); the last two null where they are not wanted
};

struct ImageGradients {
    const float *rgb, *alpha, *depth;  // null where the loss does not depend on it
};

// Draws. With `keep`, returns what `backward` needs, otherwise an empty context.
Context forward(const Isa& isa, const Gaussians& gaussians, const Cameras& cameras, const Images& images, bool keep, int threads);

// Sets `gradients`, `viewmats` (V, 4, 4) and `background` (3), whatever was in them. Arguments as they were in `forward`, images as it
// left them. The result does not depend on `threads`.
void backward(const Isa& isa, const Context& context, const Gaussians& gaussians, const Images& images,
              const ImageGradients& image_gradients, const GaussianGradients& gradients, float* viewmats, float* background, int threads);

// The step of training that those gradients are for, of one view: moves the Gaussians, which are before their activation and are the
// task's values. The result does not depend on `threads`.
void update(const Isa& isa, const Context& context, const Gaussians& gaussians, const Images& images,
            const ImageGradients& image_gradients, const AdamTask& task, int threads);

}  // namespace sparse3d
