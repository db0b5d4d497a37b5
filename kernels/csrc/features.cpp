#include <algorithm>
#include <atomic>
#include <cmath>
#include <stdexcept>
#include <string>

#include "buffer.h"
#include "sweep.h"
#include "thread_pool.h"

namespace sparse3d {

namespace {

// Features with their channels last, padded with zeros, and `border` pixels of zeros around the image.
Buffer<float> channels_last(const Grey& image, int channels, int64_t stride, int border, const std::string& name,
                            int threads) {
    const int64_t columns = image.width + 2 * border, rows = image.height + 2 * border;
    const int64_t pixels = static_cast<int64_t>(image.width) * image.height;
    Buffer<float> packed(columns * rows * stride);
    std::atomic<bool> finite{true};
    parallel_for(rows, 4, threads, [&](int64_t begin, int64_t end, int) {
        bool all_finite = true;
        for (int64_t row = begin; row < end; ++row) {
            float* const out = packed.data() + row * columns * stride;
            std::fill(out, out + columns * stride, 0.0f);
            const int64_t y = row - border;
            if (y < 0 || y >= image.height) continue;
            for (int c = 0; c < channels; ++c) {
                const float* const in = image.pixels + c * pixels + y * image.width;
                for (int x = 0; x < image.width; ++x) {
                    all_finite = all_finite && std::isfinite(in[x]);
                    out[(x + border) * stride + c] = in[x];
                }
            }
        }
        if (!all_finite) finite = false;
    });
    if (!finite) throw std::invalid_argument(name + " holds infinity or NaN");
    return packed;
}

}  // namespace

void feature_sweep(const Isa& isa, const Grey& reference, int channels, const std::vector<SourceView>& sources, const float* depths,
                   int planes, float* scores, int threads) {
    const int64_t stride = even_count(channels);
    const Buffer<float> features = channels_last(reference, channels, stride, 0, "reference", threads);
    std::vector<Buffer<float>> packed;
    std::vector<FeatureSource> views;
    for (const SourceView& source : sources) {
        const Grey image = {source.pixels, source.camera.width, source.camera.height};
        packed.push_back(channels_last(image, channels, stride, 1, "sources[" + std::to_string(views.size()) + "]", threads));
        views.push_back({packed.back().data(), source.camera});
    }
    const std::vector<float> padded = whole_pieces(depths, planes);
    CorrelateTask task = {};
    task.width = reference.width;
    task.height = reference.height;
    task.planes = planes;
    task.channels = stride;
    task.reference = features.data();
    task.sources = views.data();
    task.source_count = static_cast<int64_t>(views.size());
    task.depths = padded.data();
    task.scale = static_cast<float>(1.0 / (static_cast<double>(views.size()) * std::sqrt(static_cast<double>(channels))));
    task.scratch_stride = static_cast<int64_t>(padded.size()) + kSweepPlanes;
    task.scores = scores;
    const int64_t scratch_size = kCorrelateRows * task.scratch_stride;
    Buffer<float> scratch(scratch_size * threads);
    parallel_for(task.height, 1, threads, [&](int64_t begin, int64_t end, int worker) {
        isa.correlate(task, begin, end, scratch.data() + worker * scratch_size);
    });
}

}  // namespace sparse3d
