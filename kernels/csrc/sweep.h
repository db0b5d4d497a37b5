// Plane sweep and semi-global matching: the stages of lanes_sweep.h and lanes_aggregate.h over all tiles and lines.
#pragma once

#include <vector>

#include "isa.h"

namespace sparse3d {

// A grey image, any range.
struct Grey {
    const float* pixels;  // (height, width)
    int width, height;
};

struct SourceView {
    Grey image;
    double turn[9], shift[3];  // plane_transfer of sweep.py
};

// zncc_sweep of sweep.py into scores (height, width, planes). `noise` is a variance. The result does not depend on
// `threads`, here and below. Throws std::invalid_argument when an image holds infinity or not-a-number.
void zncc_sweep(const Isa& isa, const Grey& reference, const std::vector<SourceView>& sources, const float* depths,
                int planes, int window, float noise, float* scores, int threads);

// semi_global of sweep.py: `prices` without stride, axis and total. total and costs (height, width, planes) may not
// overlap.
void semi_global(const Isa& isa, AggregateTask prices, int paths, float* total, int threads);

}  // namespace sparse3d
