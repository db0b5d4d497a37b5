// Arguments that all bindings of the rasterizer have.
#pragma once

#include "bind.h"
#include "raster.h"

namespace sparse3d {

Gaussians make_gaussians(const In& means, const In& quats, const In& scales, const In& opacities, const In& colors,
                         int sh_degree);

// The same before their activation. A share may be left out: where `kept` is 0.
Gaussians make_raw_gaussians(const In& means, const In& quats, const In& log_scales, const In& logit_opacities, const In& sh,
                             int sh_degree, const std::optional<In>& kept, float kept_factor);

// The images of a forward pass over as many views of such a size; the median is not among what is read again.
Images rendered_images(const Context& context, const In& rgb, const In& alpha, const std::optional<In>& depth);

}  // namespace sparse3d
