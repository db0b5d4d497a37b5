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

    // Reads the tile from (or writes it to) an image of one number, or of three, a pixel; zeros where there is none.
    void load(const BlendTask& task, const float* image, float* pixels) const {
        if (image == nullptr || !whole()) __builtin_memset(pixels, 0, kTilePixels * sizeof(float));
        if (image == nullptr) return;
        for_each_row(task, [&](int p, int64_t first, int columns) {
            for (int k = 0; k < columns; ++k) pixels[p + k] = image[first + k];
        });
    }

    void load_rgb(const BlendTask& task, const float* image, float* r, float* g, float* b) const {
        if (image == nullptr || !whole()) {
            float* const channels[3] = {r, g, b};
            for (float* pixels : channels) __builtin_memset(pixels, 0, kTilePixels * sizeof(float));
        }
        if (image == nullptr) return;
        for_each_row(task, [&](int p, int64_t first, int columns) {
            const float* pixel = image + 3 * first;
            for (int k = 0; k < columns; ++k) {
                r[p + k] = pixel[3 * k];
                g[p + k] = pixel[3 * k + 1];
                b[p + k] = pixel[3 * k + 2];
            }
        });
    }

    void store(const BlendTask& task, const float* pixels, float* image) const {
        for_each_row(task, [&](int p, int64_t first, int columns) {
            for (int k = 0; k < columns; ++k) image[first + k] = pixels[p + k];
        });
    }

    void store_rgb(const BlendTask& task, const float* r, const float* g, const float* b, float* image) const {
        for_each_row(task, [&](int p, int64_t first, int columns) {
            float* pixel = image + 3 * first;
            for (int k = 0; k < columns; ++k) {
                pixel[3 * k] = r[p + k];
                pixel[3 * k + 1] = g[p + k];
                pixel[3 * k + 2] = b[p + k];
            }
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

    // Calls visit(number of its first pixel in the tile, in the image, how many) for each row inside the image.
    template <class Visit>
    void for_each_row(const BlendTask& task, Visit visit) const {
        const int64_t image_width = task.camera->width, first = top * image_width + left;
        if (whole()) {
            for (int row = 0; row < kTile; ++row) visit(row * kTile, first + row * image_width, kTile);
        } else {
            for (int row = 0; row < height; ++row) visit(row * kTile, first + row * image_width, width);
        }
    }
};

// Alpha of kAhead Gaussians at the same pixels, with its two cut-offs. A processor waits for the end of one exp2 for as long as
// it needs for four of them side by side.
inline void alphas(const Splat* splats, const uint32_t* entries, V x, V y, V alpha[kAhead]) {
    V exponent[kAhead];
#pragma GCC unroll 4
    for (int k = 0; k < kAhead; ++k) {
        const Splat& s = splats[entries[k]];
        const V dx = x - s.x, dy = y - s.y;
        const V q = s.narrow * dx, t = s.across * dy - s.cross * dx;
        exponent[k] = s.log2_opacity - q * q - t * t;
    }
    exp2_of_each<kAhead>(exponent, alpha);
#pragma GCC unroll 4
    for (int k = 0; k < kAhead; ++k) alpha[k] = select(exponent[k] >= kLog2AlphaMin, min(alpha[k], all(kAlphaMax)));
}

}  // namespace
}  // namespace sparse3d
