// Gaussians to splats.
#pragma once

#include "lanes_color.h"

namespace sparse3d {
namespace {

// Regions of the pixels whose centre is within `reach` of `centre`, as in RegionBoxes.
inline Bits region_range(V centre, V reach, int size) {
    const V margin = 0.01f + 1e-5f * reach;  // for rounding here and in the blend
    const V limit = all(static_cast<float>(size));
    const V low = min(max(centre - reach - margin - 0.5f, V{}), limit);
    const V high = min(centre + reach + margin - 0.5f, limit - 1.0f);
    Mask first = __builtin_convertvector(low, Mask);
    first -= __builtin_convertvector(first, V) < low;  // rounded up
    const Mask last = __builtin_convertvector(max(high, V{}), Mask);
    const Mask some = (low <= high) & (first <= last);
    const Bits range = ((Bits)first >> kRegionShift) | ((Bits)last >> kRegionShift) << 16;
    return some ? range : Bits{} + kNowhere;
}

void project_forward(const Gaussians& gaussians, const Camera& camera, int64_t begin, int64_t end, Splat* splats,
                     const RegionBoxes& boxes) {
    for (int64_t i = begin; i < end; i += kLanes) {
        const int n = end - i < kLanes ? static_cast<int>(end - i) : kLanes;
        const Projected p(gaussians, camera, i, n);
        const V opacity = p.shape.opacity * p.compensation(camera);
        const V x = camera.fx * p.ratio_x + camera.cx, y = camera.fy * p.ratio_y + camera.cy;
        const V inverse_c = 1.0f / p.c;
        const V narrow = sqrt(0.5f * kLog2E / p.a);
        const V size = max(max(max(x, -x), max(y, -y)), sqrt(max(p.a, p.c)));
        // NaN compares false. Without eps2d Gaussians may be thinner than 3e-8 pixels: their gradients would overflow
        const Mask drawable = p.in_range & (opacity >= kAlphaMin) & (p.determinant > 0.0f) & (size < kFar2d) &
                              (p.across < 3e7f) & (narrow < 3e7f);
        Bits columns = Bits{} + kNowhere, rows = columns;
        if (any(drawable)) {
            const V log2_opacity = log2(drawable ? opacity : all(1.0f));
            // alpha reaches ALPHA_MIN at this distance in standard deviations; a little more, for rounding
            const V reach = sqrt(max(2.0f * kLn2 * (log2_opacity - kLog2AlphaMin), V{}) + 1e-3f);
            const V reach_x = reach * sqrt(p.a), reach_y = reach * sqrt(p.c);
            const V none = all(-1.0f);  // below any pixel
            columns = region_range(drawable ? x : none, drawable ? reach_x : V{}, camera.width);
            rows = region_range(drawable ? y : none, drawable ? reach_y : V{}, camera.height);
            V fields[kSplatSize];
            fields[kX] = x;
            fields[kY] = y;
            fields[kNarrow] = narrow;
            fields[kAcross] = p.across;
            fields[kCross] = p.across * p.slope;
            fields[kLog2Opacity] = log2_opacity;
            colors_of(gaussians, camera, p.world, i, n, fields + kRed);
            fields[kDepthField] = p.camera[2];
            fields[kReachY] = reach_y;
            fields[kTipY] = reach_x * p.slope;
            fields[kShear] = p.b * inverse_c;
            fields[kThickness] = sqrt(p.determinant) * inverse_c;
            for (int k = kSplatFields; k < kSplatSize; ++k) fields[k] = V{};
            store_columns(fields, &splats[i].x, kSplatSize);
        }
        const Mask nowhere = ((Bits)columns == kNowhere) | ((Bits)rows == kNowhere);
        columns = nowhere ? Bits{} + kNowhere : columns;
        rows = nowhere ? Bits{} + kNowhere : rows;
        __builtin_memcpy(boxes.x + i, &columns, sizeof columns);
        __builtin_memcpy(boxes.y + i, &rows, sizeof rows);
    }
}

}  // namespace
}  // namespace sparse3d
