// Plane sweep and semi-global matching: the stages of lanes_zncc.h, lanes_census.h, lanes_correlate.h and lanes_aggregate.h
// over all tiles, rows and lines.
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
    const float* pixels;  // (height, width) grey or (channels, height, width)
    SourceCamera camera;
};

// zncc_sweep of sweep.py into scores (height, width, planes). `relief` is (height, width), `noise` a variance. The result does not depend on
// `threads`, here and below. Throws std::invalid_argument when an image holds infinity or not-a-number, here and below.
void zncc_sweep(const Isa& isa, const Grey& reference, const std::vector<SourceView>& sources, const float* depths, int planes,
                const float* relief, int window, float noise, float* scores, int threads);

// census_sweep of census.py, likewise.
void census_sweep(const Isa& isa, const Grey& reference, const std::vector<SourceView>& sources, const float* depths, int planes,
                  const float* relief, float* scores, int threads);

// feature_sweep of correlation.py, likewise; reference.pixels is (channels, height, width).
void feature_sweep(const Isa& isa, const Grey& reference, int channels, const std::vector<SourceView>& sources, const float* depths,
                   int planes, float* scores, int threads);

// `count` or a little more, a multiple of kSweepPlanes.
inline int64_t even_count(int64_t count) { return (count + kSweepPlanes - 1) / kSweepPlanes * kSweepPlanes; }

// Depths in whole pieces of kSweepPlanes, the last one repeated.
inline std::vector<float> whole_pieces(const float* depths, int planes) {
    std::vector<float> padded(depths, depths + planes);
    padded.resize(even_count(planes), depths[planes - 1]);
    return padded;
}

// semi_global of sweep.py: `prices` without stride, axis and total. total and costs (height, width, planes) may not
// overlap.
void semi_global(const Isa& isa, AggregateTask prices, int paths, float* total, int threads);

}  // namespace sparse3d
