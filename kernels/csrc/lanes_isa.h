// The table of stages, once for each file that includes this.
#pragma once

#include "isa.h"
#include "lanes_aggregate.h"
#include "lanes_blend.h"
#include "lanes_blend_backward.h"
#include "lanes_census.h"
#include "lanes_correlate.h"
#include "lanes_project.h"
#include "lanes_project_backward.h"
#include "lanes_ssim.h"
#include "lanes_update.h"
#include "lanes_warp_blend.h"
#include "lanes_zncc.h"

namespace sparse3d {

const Isa SPARSE3D_ISA_SYMBOL = {SPARSE3D_ISA_NAME, project_forward, project_backward, list_rows,     list_tiles,  blend_forward,
                                 blend_backward,    update,          loss_target,      loss,          zncc,        census,
                                 correlate,         aggregate,       warp_vertices,    warp_joins,    warp_quads,  warp_fringe,
                                 warp_tiles};

}  // namespace sparse3d
