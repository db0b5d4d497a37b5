#include "sweep.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <string>

#include "buffer.h"
#include "thread_pool.h"

namespace sparse3d {

static_assert(kCensusBits == 31 && (2 * kCensusHalfWidth + 1) * (2 * kCensusHalfHeight + 1) == 2 * kCensusBits + 1);
const uint32_t kCensusBit[kCensusBits] = {
    1u << 0,  1u << 1,  1u << 2,  1u << 3,  1u << 4,  1u << 5,  1u << 6,  1u << 7,  1u << 8,  1u << 9,  1u << 10,
    1u << 11, 1u << 12, 1u << 13, 1u << 14, 1u << 15, 1u << 16, 1u << 17, 1u << 18, 1u << 19, 1u << 20, 1u << 21,
    1u << 22, 1u << 23, 1u << 24, 1u << 25, 1u << 26, 1u << 27, 1u << 28, 1u << 29, 1u << 30};

namespace {

constexpr int kRows = 16;  // of one chunk of the preparations

struct Range {
    float low, high;
};

Range range_of(const Grey& image, const std::string& name) {
    Range range = {image.pixels[0], image.pixels[0]};
    bool finite = true;
    const int64_t pixels = static_cast<int64_t>(image.width) * image.height;
    for (int64_t k = 0; k < pixels; ++k) {
        const float value = image.pixels[k];
        finite = finite && std::isfinite(value);
        range.low = std::min(range.low, value);
        range.high = std::max(range.high, value);
    }
    if (!finite || !std::isfinite(range.high - range.low)) throw std::invalid_argument(name + " holds infinity or NaN");
    return range;
}

// The reference with its middle at zero, where windows lose fewest digits, and the mean and deviation of its windows.
struct ReferenceView {
    int64_t stride;
    Buffer<float> grey, mean, inverse_deviation;

    ReferenceView(const Grey& image, int window, float noise, int threads)
        : stride(image.width + 2 * kZnccMostHalf),
          grey(stride * image.height),
          mean(static_cast<size_t>(image.width) * image.height),
          inverse_deviation(static_cast<size_t>(image.width) * image.height) {
        const Range range = range_of(image, "reference");
        const float middle = 0.5f * (range.low + range.high);
        const int width = image.width, height = image.height, half = window / 2;
        parallel_for(height, kRows, threads, [&](int64_t begin, int64_t end, int) {
            std::fill(grey.data() + begin * stride, grey.data() + end * stride, 0.0f);
            for (int64_t y = begin; y < end; ++y)
                for (int x = 0; x < width; ++x)
                    grey[y * stride + kZnccMostHalf + x] = image.pixels[y * width + x] - middle;
        });
        parallel_for(height, kRows, threads, [&](int64_t begin, int64_t end, int) {
            std::vector<double> column(width), column_squares(width);
            for (int64_t y = begin; y < end; ++y) {
                const int64_t top = std::max<int64_t>(y - half, 0), bottom = std::min<int64_t>(y + half + 1, height);
                std::fill(column.begin(), column.end(), 0.0);
                std::fill(column_squares.begin(), column_squares.end(), 0.0);
                for (int64_t k = top; k < bottom; ++k)
                    for (int x = 0; x < width; ++x) {
                        const double value = grey[k * stride + kZnccMostHalf + x];
                        column[x] += value;
                        column_squares[x] += value * value;
                    }
                for (int x = 0; x < width; ++x) {
                    const int left = std::max(x - half, 0), right = std::min(x + half + 1, width);
                    double sum = 0.0, squares = 0.0;
                    for (int k = left; k < right; ++k) {
                        sum += column[k];
                        squares += column_squares[k];
                    }
                    const double pixels = static_cast<double>((bottom - top) * (right - left));
                    const double variance = std::max(squares / pixels - sum * sum / (pixels * pixels), 0.0);
                    mean[y * width + x] = static_cast<float>(sum / pixels);
                    inverse_deviation[y * width + x] = static_cast<float>(1.0 / std::sqrt(variance + noise));
                }
            }
        });
    }
};

// The census bits of the reference, one neighbour of a row of pixels after the other.
Buffer<CensusPixel> census_pixels(const Grey& image, int threads) {
    range_of(image, "reference");
    const int width = image.width, height = image.height;
    Buffer<CensusPixel> pixels(static_cast<size_t>(width) * height);
    parallel_for(height, kRows, threads, [&](int64_t begin, int64_t end, int) {
        std::vector<uint32_t> codes[2], exist[2];
        std::vector<int> count(width);
        for (int64_t y = begin; y < end; ++y) {
            for (int half = 0; half < 2; ++half) {
                codes[half].assign(width, 0);
                exist[half].assign(width, 0);
            }
            std::fill(count.begin(), count.end(), 0);
            const float* const row = image.pixels + y * width;
            int k = 0;
            for (int64_t v = y - kCensusHalfHeight; v <= y + kCensusHalfHeight; ++v)
                for (int du = -kCensusHalfWidth; du <= kCensusHalfWidth; ++du) {
                    if (v == y && du == 0) continue;
                    const uint32_t bit = kCensusBit[k % kCensusBits];
                    uint32_t* const code = codes[k / kCensusBits].data();
                    uint32_t* const there = exist[k / kCensusBits].data();
                    ++k;
                    if (v < 0 || v >= height) continue;
                    for (int x = std::max(-du, 0); x < width - std::max(du, 0); ++x) {
                        code[x] |= image.pixels[v * width + du + x] < row[x] ? bit : 0;
                        there[x] |= bit;
                        ++count[x];
                    }
                }
            for (int x = 0; x < width; ++x)
                pixels[y * width + x] = {{codes[0][x], codes[1][x]}, {exist[0][x], exist[1][x]},
                                         count[x] > 0 ? 1.0f : 0.0f, 2.0f / static_cast<float>(std::max(count[x], 1))};
        }
    });
    return pixels;
}

// Four neighbours of 16 bits for each pixel; their range is the image's, so half a step is 1/131070 of it.
SweepSource pack(const SourceView& view, const std::string& name, Buffer<uint64_t>& quads, int threads) {
    const int width = view.camera.width, height = view.camera.height;
    const Range range = range_of({view.pixels, width, height}, name);
    const float extent = range.high - range.low, scale = extent > 0.0f ? 65535.0f / extent : 0.0f;
    quads.resize(static_cast<size_t>(width) * height);
    parallel_for(height, kRows, threads, [&](int64_t begin, int64_t end, int) {
        std::vector<uint32_t> pairs[2] = {std::vector<uint32_t>(width), std::vector<uint32_t>(width)};
        const auto fill = [&](int64_t y, std::vector<uint32_t>& pair) {
            const float* const row = view.pixels + std::min<int64_t>(y, height - 1) * width;
            for (int x = 0; x < width; ++x)
                pair[x] = static_cast<uint32_t>(std::min((row[x] - range.low) * scale + 0.5f, 65535.0f));
            for (int x = 0; x < width; ++x) pair[x] |= (x + 1 < width ? pair[x + 1] & 0xffffu : pair[x]) << 16;
        };
        fill(begin, pairs[0]);
        for (int64_t y = begin; y < end; ++y) {
            fill(y + 1, pairs[1]);
            for (int x = 0; x < width; ++x)
                quads[y * width + x] = pairs[0][x] | static_cast<uint64_t>(pairs[1][x]) << 32;
            pairs[0].swap(pairs[1]);
        }
    });
    SweepSource source = {};
    source.quads = quads.data();
    source.camera = view.camera;
    source.step = extent / 65535.0f;
    source.offset = -0.5f * extent;
    return source;
}

// Tiles of about the same size, at most `largest`.
int even_size(int size, int largest) {
    const int tiles = (size + largest - 1) / largest;
    return (size + tiles - 1) / tiles;
}

// Fills what all sweeps of grey images have and runs `stage` over all tiles and planes.
template <class Task>
void sweep(Task& task, void (*stage)(const Task&, int64_t, int64_t, float*), const Grey& reference,
           const std::vector<SourceView>& sources, const float* depths, int planes, const float* relief, float* scores, int threads) {
    if (!(range_of({relief, reference.width, reference.height}, "relief").low > 0.0f))
        throw std::invalid_argument("relief holds numbers that are not above 0");
    std::vector<Buffer<uint64_t>> quads(sources.size());
    std::vector<SweepSource> packed;
    for (size_t s = 0; s < sources.size(); ++s)
        packed.push_back(pack(sources[s], "sources[" + std::to_string(s) + "]", quads[s], threads));
    const std::vector<float> padded = whole_pieces(depths, planes);
    task.width = reference.width;
    task.height = reference.height;
    task.planes = planes;
    task.sources = packed.data();
    task.source_count = static_cast<int64_t>(packed.size());
    task.depths = padded.data();
    task.relief = relief;
    task.tile_width = even_size(task.width, kSweepTileWidth);
    task.tile_height = even_size(task.height, kSweepTileHeight);
    task.tiles_across = (task.width + task.tile_width - 1) / task.tile_width;
    task.scores = scores;
    const int64_t tiles_down = (task.height + task.tile_height - 1) / task.tile_height;
    const int64_t pieces = static_cast<int64_t>(padded.size()) / kSweepPlanes;
    const int64_t scratch_size = task.source_count * task.tile_width * task.tile_height * kSweepPlanes;
    Buffer<float> scratch(scratch_size * threads);
    parallel_for(task.tiles_across * tiles_down * pieces, 1, threads, [&](int64_t begin, int64_t end, int worker) {
        stage(task, begin, end, scratch.data() + worker * scratch_size);
    });
}

}  // namespace

void zncc_sweep(const Isa& isa, const Grey& reference, const std::vector<SourceView>& sources, const float* depths, int planes,
                const float* relief, int window, float noise, float* scores, int threads) {
    const ReferenceView view(reference, window, noise, threads);
    ZnccTask task = {};
    task.window = window;
    task.noise = noise;
    task.reference = view.grey.data();
    task.stride = view.stride;
    task.mean = view.mean.data();
    task.inverse_deviation = view.inverse_deviation.data();
    sweep(task, isa.zncc, reference, sources, depths, planes, relief, scores, threads);
}

void census_sweep(const Isa& isa, const Grey& reference, const std::vector<SourceView>& sources, const float* depths, int planes,
                  const float* relief, float* scores, int threads) {
    const Buffer<CensusPixel> pixels = census_pixels(reference, threads);
    CensusTask task = {};
    task.pixels = pixels.data();
    sweep(task, isa.census, reference, sources, depths, planes, relief, scores, threads);
}

void semi_global(const Isa& isa, AggregateTask prices, int paths, float* total, int threads) {
    prices.stride = even_count(prices.planes) + kSweepPlanes;
    // infinity, a line forth, two pixels back, prices of jumps
    const int64_t longest = std::max(prices.width, prices.height);
    const int64_t scratch_size = even_count(kSweepPlanes + (longest + 2) * prices.stride + longest);
    Buffer<float> scratch(scratch_size * threads);
    constexpr int axes[4][2] = {{0, 1}, {1, 0}, {1, 1}, {-1, 1}};
    for (int axis = 0; axis < paths / 2; ++axis) {
        AggregateTask task = prices;
        task.dx = axes[axis][0];
        task.dy = axes[axis][1];
        task.add = axis > 0;
        task.total = total;
        const int64_t lines = task.dy == 0 ? task.height : task.dx == 0 ? task.width : task.width + task.height - 1;
        parallel_for(lines, 8, threads, [&](int64_t begin, int64_t end, int worker) {
            isa.aggregate(task, begin, end, scratch.data() + worker * scratch_size);
        });
    }
}

}  // namespace sparse3d
