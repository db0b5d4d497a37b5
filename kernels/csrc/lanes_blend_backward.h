// Gradient of lanes_blend.h, front to back again. With L the loss, T the transmittance before a Gaussian and w = alpha T,
//     dL/dalpha = T q - (what all Gaussians behind and the background contribute) / (1 - alpha),
// where q = dL/drgb . colour + dL/dcoverage is this Gaussian's share. What is behind is the finished pixel's sum less
// what has been passed, so nothing is stored for each pixel.
//
// The sums over a tile's pixels that a Gaussian's gradient needs are products of v = alpha dL/dalpha with the pixels'
// positions, and of w with the pixels' colour gradients: fixed for the tile. So v and w of a batch of entries are only
// noted, pixel by pixel, then transposed and multiplied for many entries at once, one in each lane.
#pragma once

#include "lanes_tile.h"

namespace sparse3d {
namespace {

// The gradients of a tile's pixels. `share` has what does not depend on the Gaussian: a depth is sum w_i z_i / coverage,
// so that a Gaussian's part in dL/ddepth is (z_i - depth) / coverage, and nothing is left behind the last one.
struct alignas(64) TileGradients {
    float r[kTilePixels], g[kTilePixels], b[kTilePixels], depth[kTilePixels];
    float share[kTilePixels];  // dL/dcoverage - dL/ddepth depth
    float transmittance[kTilePixels], behind[kTilePixels];
};

struct alignas(64) Batch {
    float v[kBatch][kTilePixels], w[kBatch][kTilePixels];          // at first alpha / (1 - alpha) and alpha
    float x[kBatch], y[kBatch], across[kBatch], cross[kBatch];  // of the splats, centre relative to the tile's middle
};

// Reads the gradients; adds that of the background.
inline void load_gradients(const BlendTask& task, const Tile& tile, TileGradients& grads, float* background) {
    alignas(64) float coverage[kTilePixels], depth[kTilePixels], rgb[3][kTilePixels];
    const bool with_rgb = task.grad_rgb != nullptr;
    const bool with_depth = task.grad_depth != nullptr;
    tile.fill_transmittance(grads.transmittance);
    tile.load(task, task.alpha, coverage);
    tile.load(task, task.grad_alpha, grads.share);
    tile.load(task, task.grad_depth, grads.depth);
    tile.load(task, with_depth ? task.depth : nullptr, depth);
    tile.load_rgb(task, task.grad_rgb, grads.r, grads.g, grads.b);
    tile.load_rgb(task, with_rgb ? task.rgb : nullptr, rgb[0], rgb[1], rgb[2]);
    V sums[3] = {};
    for (int at = 0; at < kTilePixels; at += kLanes) {
        const V covered = load(coverage + at), r = load(grads.r + at), g = load(grads.g + at), b = load(grads.b + at);
        V share = load(grads.share + at);
        store(grads.behind + at, r * load(rgb[0] + at) + g * load(rgb[1] + at) + b * load(rgb[2] + at) + share * covered);
        if (with_depth) {
            const V grad_depth = load(grads.depth + at) / max(covered, all(1e-10f));
            store(grads.depth + at, grad_depth);
            store(grads.share + at, share - grad_depth * load(depth + at));
        }
        sums[0] += r * (1.0f - covered);
        sums[1] += g * (1.0f - covered);
        sums[2] += b * (1.0f - covered);
    }
    for (int k = 0; k < 3; ++k)
        for (int l = 0; l < kLanes; ++l) background[k] += sums[k][l];
}

// Notes v and w of `size` entries, a multiple of kAhead, for one part of a tile. What depends on the entry before, and has to
// wait for it, has a loop of its own: there it waits for a multiplication and not for the exponential too.
template <bool kWithDepth>
inline void differentiate_part(const Splat* splats, const uint32_t* entries, int size, V x, V y, int part,
                               TileGradients& grads, Batch& batch) {
    const int at = part * kLanes;
    for (int e = 0; e < size; e += kAhead) {
        V alpha[kAhead];
        alphas(splats, entries + e, x, y, alpha);
#pragma GCC unroll 4
        for (int k = 0; k < kAhead; ++k) {
            store(batch.v[e + k] + at, alpha[k] * inverse(1.0f - alpha[k]));
            store(batch.w[e + k] + at, alpha[k]);
        }
    }
    const V grad_r = load(grads.r + at), grad_g = load(grads.g + at), grad_b = load(grads.b + at);
    const V grad_depth = load(grads.depth + at), grad_share = load(grads.share + at);
    V T = load(grads.transmittance + at), behind = load(grads.behind + at);
    for (int e = 0; e < size; ++e) {
        const Splat& s = splats[entries[e]];
        const V alpha = load(batch.w[e] + at), ratio = load(batch.v[e] + at);
        const V taken = alpha * T;
        T = less_product(T, alpha, T);
        const Mask alive = T > kTransmittanceMin;
        const V weight = select(alive, taken);
        V share = grad_share + grad_r * s.r + grad_g * s.g + grad_b * s.b;
        if (kWithDepth) share += grad_depth * s.depth;
        const V passed = weight * share;
        behind -= passed;
        // no gradient where alpha is held at its largest, nor (both terms are 0) where it is below the smallest
        store(batch.v[e] + at, select(alive & (alpha < kAlphaMax), passed - ratio * behind));
        store(batch.w[e] + at, weight);
    }
    store(grads.transmittance + at, T);
    store(grads.behind + at, behind);
}

// The pixels of kLanes entries, an entry in each lane.
inline void entries_to_lanes(const float (*entries)[kTilePixels], V pixels[kTilePixels]) {
    load_columns(entries[0], kTilePixels, pixels);
}

// Sums over the pixels for the kLanes entries from `first` of a batch, in the order of SlotField.
template <bool kWithDepth>
inline void sum_pixels(const TileGradients& grads, const Batch& batch, int first, V sums[kSlotSize]) {
    // Moments of v in the pixels' positions relative to the tile's middle: columns of each row, then rows
    V pixels[kTilePixels];
    entries_to_lanes(batch.v + first, pixels);
    V s = V{}, sx = V{}, sy = V{}, sxx = V{}, sxy = V{}, syy = V{};
#pragma GCC unroll 4
    for (int row = 0; row < kTile; ++row) {
        const V* v = pixels + row * kTile;
        const V outer = v[0] + v[3], inner = v[1] + v[2];
        const V row_s = outer + inner;
        const V row_x = 1.5f * (v[3] - v[0]) + 0.5f * (v[2] - v[1]);
        const float y = row - 1.5f;
        s += row_s;
        sx += row_x;
        sxx += 2.25f * outer + 0.25f * inner;
        sy += y * row_s;
        sxy += y * row_x;
        syy += y * y * row_s;
    }
    // Moved to the splat's centre and into t = across dy - cross dx
    const V dx = -load(batch.x + first), dy = -load(batch.y + first);  // of the tile's middle
    const V across = load(batch.across + first), cross = load(batch.cross + first);
    const V t = across * dy - cross * dx;
    const V st = across * sy - cross * sx, sxt = across * sxy - cross * sxx;
    const V stt = across * (across * syy - cross * sxy) - cross * sxt;
    sums[kV] = s;
    sums[kVX] = sx + dx * s;
    sums[kVXX] = sxx + dx * (sx + sums[kVX]);
    sums[kVT] = st + t * s;
    sums[kVXT] = sxt + t * sx + dx * sums[kVT];
    sums[kVTT] = stt + t * (st + sums[kVT]);

    entries_to_lanes(batch.w + first, pixels);
    sums[kR] = sums[kG] = sums[kB] = sums[kDepth] = V{};
#pragma GCC unroll 16
    for (int p = 0; p < kTilePixels; ++p) {
        sums[kR] += pixels[p] * grads.r[p];
        sums[kG] += pixels[p] * grads.g[p];
        sums[kB] += pixels[p] * grads.b[p];
        if (kWithDepth) sums[kDepth] += pixels[p] * grads.depth[p];
    }
    for (int k = kSlotFields; k < kSlotSize; ++k) sums[k] = V{};
}

template <bool kWithDepth>
void blend_backward_tile(const Tile& tile, const Region& region, const Splat* splats, const uint32_t* entries, uint32_t begin,
                         uint32_t stop, TileGradients& grads, Slot* slots) {
    const V x = tile.pixels_x();
    Batch batch;
    for (; begin < stop; begin += kBatch) {
        const int size = stop - begin < kBatch ? static_cast<int>(stop - begin) : kBatch;
        if (size < kBatch) __builtin_memset(&batch, 0, sizeof batch);
        const uint32_t* listed = entries + begin;
        for (int e = 0; e < size; ++e) {
            const Splat& s = splats[listed[e]];
            batch.x[e] = s.x - tile.x;
            batch.y[e] = s.y - tile.y;
            batch.across[e] = s.across;
            batch.cross[e] = s.cross;
        }
        for (int part = 0; part < kParts; ++part)
            differentiate_part<kWithDepth>(splats, listed, size, x, tile.pixels_y(part), part, grads, batch);
        for (int first = 0; first < size; first += kLanes) {
            V sums[kSlotSize];
            sum_pixels<kWithDepth>(grads, batch, first, sums);
            Slot rows[kLanes];
            store_columns(sums, rows->sums, kSlotSize);
            for (int l = 0; l < kLanes && first + l < size; ++l) {
                if (listed[first + l] == region.count) break;  // from here on, what fills the list up
                float* slot = slots[listed[first + l]].sums;
                for (int k = 0; k < kSlotSize; k += kLanes) store(slot + k, load(slot + k) + load(rows[l].sums + k));
            }
        }
    }
}

// Sets the slots of a region's Gaussians and its background_sums.
void blend_backward(const BlendTask& task, int64_t index, RegionScratch& scratch) {
    const Region region(task, index);
    const RegionLists& lists = task.lists[index];
    Slot* slots = task.slots + task.region_begin[index];
    if (region.count > 0) {
        __builtin_memset(slots, 0, region.count * sizeof(Slot));
        gather_splats(task, region, scratch.splats);
    }
    float background[3] = {0.0f, 0.0f, 0.0f};
    for (int number = 0; number < kTilesInRegion; ++number) {
        const Tile tile(region, number);
        if (tile.outside()) continue;
        TileGradients grads;
        load_gradients(task, tile, grads, background);
        const auto blend_backward_one = task.grad_depth != nullptr ? blend_backward_tile<true> : blend_backward_tile<false>;
        blend_backward_one(tile, region, scratch.splats, lists.entries, lists.begin[number], lists.stop[number], grads, slots);
    }
    for (int k = 0; k < 3; ++k) task.background_sums[3 * index + k] = background[k];
}

}  // namespace
}  // namespace sparse3d
