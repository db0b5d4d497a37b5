// One tile and one step of compositing: reference.py, _composite_tile.
#pragma once

#include "lanes_lists.h"

namespace sparse3d {
namespace {

// A tile of 4 x 4 pixels is kParts vectors, of whole or half rows after another.
constexpr int kParts = kTilePixels / kLanes;

// Where a tile is in the image, and the pixels of its first part relative to the middle of its region.
struct Tile {
    int left, top, width, height;
    float x, y;  // middle

    Tile(const Region& region, int index) {
        const int column = index % kRegionTiles * kTile, row = index / kRegionTiles * kTile;
        left = region.left + column;
        top = region.top + row;
        width = region.width - column < kTile ? region.width - column : kTile;
        height = region.height - row < kTile ? region.height - row : kTile;
        x = column + 0.5f * (kTile - kRegion);
        y = row + 0.5f * (kTile - kRegion);
    }

    bool outside() const { return width <= 0 || height <= 0; }

    V pixels_x() const {
        V v;
        for (int l = 0; l < kLanes; ++l) v[l] = l % kTile + 0.5f - 0.5f * kTile;
        return v + x;
    }

    V pixels_y(int part) const {
        V v;
        for (int l = 0; l < kLanes; ++l) v[l] = l / kTile + 0.5f - 0.5f * kTile;
        return v + (y + static_cast<float>(part * kLanes / kTile));
    }

    // Reads the tile from an image of kChannels numbers a pixel, or writes it; row after row, zeros where there is no pixel.
    template <int kChannels>
    void load(const Camera& camera, const float* image, float* pixels) const {
        constexpr int kRow = kTile * kChannels;
        if (image == nullptr || !whole()) __builtin_memset(pixels, 0, kTile * kRow * sizeof(float));
        if (image == nullptr) return;
        for_each_row<kChannels>(camera, [&](int row, int64_t first, int bytes) {
            __builtin_memcpy(pixels + row * kRow, image + first, bytes);
        });
    }

    template <int kChannels>
    void store(const Camera& camera, const float* pixels, float* image) const {
        for_each_row<kChannels>(camera, [&](int row, int64_t first, int bytes) {
            __builtin_memcpy(image + first, pixels + row * kTile * kChannels, bytes);
        });
    }

    // Transmittance to begin with: pixels outside the image are finished from the start.
    void fill_transmittance(float* pixels) const {
        for (int p = 0; p < kTilePixels; ++p) pixels[p] = 1.0f;
        if (whole()) return;
        for (int p = 0; p < kTilePixels; ++p) pixels[p] = p % kTile < width && p / kTile < height ? 1.0f : 0.0f;
    }

   private:
    bool whole() const { return width == kTile && height == kTile; }

    // Calls visit(row, number in the image of its first number, its bytes) for the rows inside the image.
    template <int kChannels, class Visit>
    void for_each_row(const Camera& camera, Visit visit) const {
        const int64_t stride = static_cast<int64_t>(camera.width) * kChannels, first = top * stride + left * kChannels;
        if (whole()) {  // of a length known here, which makes each copy one or two instructions
            for (int row = 0; row < kTile; ++row) visit(row, first + row * stride, kTile * kChannels * sizeof(float));
        } else {
            for (int row = 0; row < height; ++row) visit(row, first + row * stride, width * kChannels * sizeof(float));
        }
    }
};

// Alpha of kAhead Gaussians at the same pixels, with its two cut-offs. One exp2 is a chain of
// operations that wait for each other; a processor works at several side by side in the same time.
inline void alphas(const Splat* splats, const uint32_t* entries, V x, V y, V alpha[kAhead]) {
    V exponent[kAhead];
#pragma GCC unroll 8
    for (int k = 0; k < kAhead; ++k) {
        const Splat& s = splats[entries[k]];
        const V q = s.narrow * x + s.q0, t = s.across * y + (s.t0 - s.cross * x);
        exponent[k] = s.log2_opacity - q * q - t * t;
    }
    exp2_of_each<kAhead>(exponent, alpha);
#pragma GCC unroll 8
    for (int k = 0; k < kAhead; ++k) alpha[k] = select(exponent[k] >= kLog2AlphaMin, min(alpha[k], all(kAlphaMax)));
}

}  // namespace
}  // namespace sparse3d
