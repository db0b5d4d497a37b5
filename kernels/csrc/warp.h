// Forward warp: the stages of lanes_warp*.h over all photos and tiles.
#pragma once

#include <vector>

#include "isa.h"

namespace sparse3d {

// forward_warp of warp.py. `photos`: what WarpSource holds first; `task`: all but photos and tiles. The result does not
// depend on `threads`.
void forward_warp(const Isa& isa, std::vector<WarpSource> photos, WarpTask task, int threads);

}  // namespace sparse3d
