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

// An entry's v, and its w, stand row by row of the tile's pixels: four numbers in each of four arrays over the entries. So a
// vector of one array holds four columns of pixels of kLanes / 4 entries, and four of them need only be transposed within
// blocks of four lanes to have one column each, with an entry in each lane: entry kBlocks a + b in lane 4 b + a.
constexpr int kBlocks = kLanes / 4;
constexpr int kBatchRow = kBatch * kTile;

struct alignas(64) Batch {
    float v[kTile * kBatchRow], w[kTile * kBatchRow];
    float x[kBatch], y[kBatch], across[kBatch], cross[kBatch];  // of the splats, in the order of the lanes; centre relative to the tile's middle
};

inline int lane_of(int entry) {
    const int in_vector = entry % kLanes;
    return entry - in_vector + 4 * (in_vector % kBlocks) + in_vector / kBlocks;
}

// Reads the gradients; adds that of the background, lane by lane.
inline void load_gradients(const BlendTask& task, const Tile& tile, TileGradients& grads, V background[3]) {
    const Camera& camera = *task.camera;
    alignas(64) float coverage[kTilePixels], depth[kTilePixels], rgb[3 * kTilePixels], grad_rgb[3 * kTilePixels];
    tile.fill_transmittance(grads.transmittance);
    tile.load<1>(camera, task.alpha, coverage);
    tile.load<1>(camera, task.grad_alpha, grads.share);
    tile.load<3>(camera, task.grad_rgb, grad_rgb);
    tile.load<3>(camera, task.grad_rgb != nullptr ? task.rgb : nullptr, rgb);
    tile.load<1>(camera, task.grad_depth, grads.depth);
    tile.load<1>(camera, task.grad_depth != nullptr ? task.depth : nullptr, depth);
    for (int at = 0; at < kTilePixels; at += kLanes) {
        const V covered = load(coverage + at), share = load(grads.share + at);
        V color[3], grad[3], behind = share * covered;
        load_columns3(rgb + 3 * at, color);
        load_columns3(grad_rgb + 3 * at, grad);
        for (int k = 0; k < 3; ++k) {
            behind += grad[k] * color[k];
            background[k] += grad[k] * (1.0f - covered);
        }
        store(grads.r + at, grad[0]);
        store(grads.g + at, grad[1]);
        store(grads.b + at, grad[2]);
        store(grads.behind + at, behind);
        if (task.grad_depth != nullptr) {
            const V grad_depth = load(grads.depth + at) / max(covered, all(1e-10f));
            store(grads.depth + at, grad_depth);
            store(grads.share + at, share - grad_depth * load(depth + at));
        }
    }
}

// Alpha of a batch of entries, and alpha / (1 - alpha).
struct BatchAlphas {
    V alpha[kParts][kBatch], ratio[kParts][kBatch];

    void compute(const Splat* splats, const uint32_t* entries, int size, const Tile& tile) {
        const V x = tile.pixels_x();
        for (int part = 0; part < kParts; ++part) {
            const V y = tile.pixels_y(part);
            for (int e = 0; e < size; e += kAhead) {
                alphas(splats, entries + e, x, y, alpha[part] + e);
#pragma GCC unroll 8
                for (int k = e; k < e + kAhead; ++k) ratio[part][k] = alpha[part][k] * inverse(1.0f - alpha[part][k]);
            }
        }
    }
};

// Notes v and w of a batch of entries for one part of a tile.
template <bool kWithDepth>
inline void differentiate_part(const Splat* splats, const uint32_t* entries, int size, const V* alphas, const V* ratios, int part,
                               TileGradients& grads, Batch& batch) {
    const int at = part * kLanes;
    float* const v = batch.v + at / kTile * kBatchRow;
    float* const w = batch.w + at / kTile * kBatchRow;
    const V grad_r = load(grads.r + at), grad_g = load(grads.g + at), grad_b = load(grads.b + at);
    const V grad_depth = load(grads.depth + at), grad_share = load(grads.share + at);
    V T = load(grads.transmittance + at), behind = load(grads.behind + at);
    for (int e = 0; e < size; ++e) {
        const Splat& s = splats[entries[e]];
        const V alpha = alphas[e];
        const V taken = alpha * T;
        T = less_product(T, alpha, T);
        const Mask alive = T > kTransmittanceMin;
        const V weight = select(alive, taken);
        V share = grad_share + grad_r * s.r + grad_g * s.g + grad_b * s.b;
        if (kWithDepth) share += grad_depth * s.depth;
        const V passed = weight * share;
        behind -= passed;
        // no gradient where alpha is held at its largest, nor (both terms are 0) where it is below the smallest
        store_blocks(select(alive & (alpha < kAlphaMax), passed - ratios[e] * behind), v + kTile * e, kBatchRow);
        store_blocks(weight, w + kTile * e, kBatchRow);
    }
    store(grads.transmittance + at, T);
    store(grads.behind + at, behind);
}

// The four pixels of a row for the kLanes entries from `first`, an entry in each lane.
inline void load_pixels(const float* rows, int row, int first, V pixels[kTile]) {
    for (int a = 0; a < 4; ++a) pixels[a] = load(rows + row * kBatchRow + kTile * (first + kBlocks * a));
    transpose_blocks(pixels);
}

// Sums over the pixels for the kLanes entries from `first` of a batch, in the order of SlotField.
template <bool kWithDepth>
inline void sum_pixels(const TileGradients& grads, const Batch& batch, int first, V sums[kSlotSize]) {
    // Moments of v in the pixels' positions relative to the tile's middle: columns of each row, then rows
    V s = V{}, sx = V{}, sy = V{}, sxx = V{}, sxy = V{}, syy = V{};
#pragma GCC unroll 4
    for (int row = 0; row < kTile; ++row) {
        V v[kTile];
        load_pixels(batch.v, row, first, v);
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

    V r[2] = {}, g[2] = {}, b[2] = {}, depth[2] = {};  // of even and odd rows: each addition waits for the one before
#pragma GCC unroll 4
    for (int row = 0; row < kTile; ++row) {
        V w[kTile];
        load_pixels(batch.w, row, first, w);
#pragma GCC unroll 4
        for (int column = 0; column < kTile; ++column) {
            const int p = row * kTile + column;
            r[row % 2] += w[column] * grads.r[p];
            g[row % 2] += w[column] * grads.g[p];
            b[row % 2] += w[column] * grads.b[p];
            if (kWithDepth) depth[row % 2] += w[column] * grads.depth[p];
        }
    }
    sums[kR] = r[0] + r[1];
    sums[kG] = g[0] + g[1];
    sums[kB] = b[0] + b[1];
    sums[kDepth] = depth[0] + depth[1];
    for (int k = kSlotFields; k < kSlotSize; ++k) sums[k] = V{};
}

// What the sums need of the splats of a batch.
inline void note_splats(const Tile& tile, const Splat* splats, const uint32_t* entries, int size, Batch& batch) {
    for (int e = 0; e < size; ++e) {
        const Splat& s = splats[entries[e]];
        const int lane = lane_of(e);
        batch.x[lane] = s.x - tile.x;
        batch.y[lane] = s.y - tile.y;
        batch.across[lane] = s.across;
        batch.cross[lane] = s.cross;
    }
}

// Adds the sums of a batch to the slots of its Gaussians, of which there are `count`. Not inlined: compilers would fetch all
// gradients before the loop over batches, and then fetch them again from where they had put them.
template <bool kWithDepth>
__attribute__((noinline)) void add_sums(const TileGradients& grads, const Batch& batch, const uint32_t* entries, int size, int64_t count,
                     Slot* slots) {
    for (int first = 0; first < size; first += kLanes) {
        V sums[kSlotSize];
        sum_pixels<kWithDepth>(grads, batch, first, sums);
        Slot rows[kLanes] = {};
        for (int field = 0; field < kSlotFields; field += 4) {
            transpose_blocks(sums + field);
            for (int a = 0; a < 4; ++a) store_blocks(sums[field + a], rows[kBlocks * a].sums + field, kSlotSize);
        }
        for (int l = 0; l < kLanes && first + l < size; ++l) {
            if (entries[first + l] == count) break;  // from here on, what fills the list up
            float* slot = slots[entries[first + l]].sums;
            for (int k = 0; k < kSlotSize; k += kLanes) store(slot + k, load(slot + k) + load(rows[l].sums + k));
        }
    }
}

// The three steps of a batch wait for each other, and each for its own slowest chain. So between the first two stands the
// third of the batch before: neighbours in this order have nothing to wait for.
template <bool kWithDepth>
void blend_backward_tile(const Tile& tile, const Region& region, const uint32_t* entries, uint32_t begin, uint32_t stop,
                         TileGradients& grads, Slot* slots) {
    BatchAlphas alphas;
    Batch batch;
    __builtin_memset(&batch, 0, sizeof batch);
    int size = 0;
    for (; begin < stop; begin += kBatch) {
        const int before = size;
        size = stop - begin < kBatch ? static_cast<int>(stop - begin) : kBatch;
        const uint32_t* listed = entries + begin;
        alphas.compute(region.splats, listed, size, tile);
        if (before > 0) add_sums<kWithDepth>(grads, batch, listed - kBatch, before, region.count, slots);
        note_splats(tile, region.splats, listed, size, batch);
        for (int part = 0; part < kParts; ++part)
            differentiate_part<kWithDepth>(region.splats, listed, size, alphas.alpha[part], alphas.ratio[part], part, grads, batch);
    }
    if (size > 0) add_sums<kWithDepth>(grads, batch, entries + begin - kBatch, size, region.count, slots);
}

// Sets the slots of a region's Gaussians and its background_sums.
void blend_backward(const BlendTask& task, int64_t index) {
    const Region region(task, index);
    const RegionLists& lists = task.lists[index];
    Slot* slots = task.slots + task.region_begin[index];
    if (region.count > 0) __builtin_memset(slots, 0, region.count * sizeof(Slot));
    V background[3] = {};
    for (int number = 0; number < kTilesInRegion; ++number) {
        const Tile tile(region, number);
        if (tile.outside()) continue;
        TileGradients grads;
        load_gradients(task, tile, grads, background);
        const auto blend_backward_one = task.grad_depth != nullptr ? blend_backward_tile<true> : blend_backward_tile<false>;
        blend_backward_one(tile, region, lists.entries, lists.begin[number], lists.stop[number], grads, slots);
    }
    for (int k = 0; k < 3; ++k) {
        task.background_sums[3 * index + k] = 0.0f;
        for (int l = 0; l < kLanes; ++l) task.background_sums[3 * index + k] += background[k][l];
    }
}

}  // namespace
}  // namespace sparse3d
