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

    // Calls visit(number in the tile, number in the image) for the pixels inside the image.
    template <class Visit>
    void for_each_pixel(int image_width, Visit visit) const {
        for (int row = 0; row < height; ++row) {
            const int64_t first = static_cast<int64_t>(top + row) * image_width + left;
            for (int column = 0; column < width; ++column) visit(row * kTile + column, first + column);
        }
    }

    // Transmittance to begin with: pixels outside the image are finished from the start.
    void fill_transmittance(float* pixels) const {
        for (int p = 0; p < kTilePixels; ++p) pixels[p] = p % kTile < width && p / kTile < height ? 1.0f : 0.0f;
    }
};

inline V log2_alpha(const Splat& s, V x, V y) {
    const V dx = x - s.x, dy = y - s.y;
    const V q = s.narrow * dx, t = s.across * dy - s.cross * dx;
    return s.log2_opacity - q * q - t * t;
}

// Alpha with its two cut-offs, and the transmittance behind it.
struct Step {
    Mask counted;  // not below ALPHA_MIN, and the pixel not finished
    V uncapped, alpha, weight, after;

    Step(V log2_alpha, V before) {
        uncapped = exp2(log2_alpha);
        const V capped = min(uncapped, all(kAlphaMax));
        const Mask bright = log2_alpha >= kLog2AlphaMin;
        alpha = select(bright, capped);
        const V taken = alpha * before;
        // A finished pixel keeps a transmittance at or below the minimum, so that it stays finished.
        after = before - taken;
        const Mask alive = after > kTransmittanceMin;
        weight = select(alive, taken);
        counted = bright & alive;
    }
};

}  // namespace
}  // namespace sparse3d
