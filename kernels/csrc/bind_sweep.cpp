#include "bind.h"
#include "sweep.h"

namespace sparse3d {

namespace {

void check_pixels(const std::string& name, int64_t height, int64_t width) {
    check_image_size(name.c_str(), width, height, 1);
    need(width * height < int64_t{1} << 31, name + " has 2^31 pixels or more");
}

Grey grey(const std::string& name, const In& image) {
    const float* const pixels = data<const float>(name.c_str(), image, {-1, -1});
    check_pixels(name, size(image, 0), size(image, 1));
    return {pixels, static_cast<int>(size(image, 1)), static_cast<int>(size(image, 0))};
}

// A row of `transfers`: turn and shift of plane_transfer side by side.
SourceView source_view(const Grey& image, const double* transfer) {
    SourceView source = {image.pixels, {image.width, image.height, {}, {}}};
    for (int row = 0; row < 3; ++row) {
        for (int k = 0; k < 3; ++k) source.camera.turn[3 * row + k] = transfer[4 * row + k];
        source.camera.shift[row] = static_cast<float>(transfer[4 * row + 3]);
    }
    return source;
}

// What the sweeps have in common.
struct Sweep {
    const double* transfers;
    const float* depths;
    int planes;
    float* scores;

    Sweep(const Grey& view, int64_t sources, const In& transfers_in, const In& depths_in, const Out& scores_out, int threads) {
        need(sources >= 1, "sources is empty");
        transfers = data<const double>("transfers", transfers_in, {sources, 3, 4});
        depths = data<const float>("depths", depths_in, {-1});
        const int64_t count = size(depths_in, 0);
        need(count >= 1 && count <= 65536, "depths has " + std::to_string(count) + " planes, needed 1 to 65536");
        planes = static_cast<int>(count);
        scores = data<float>("scores", scores_out, {view.height, view.width, count});
        check_threads(threads);
    }

    std::vector<SourceView> views(const std::vector<In>& sources) const {
        std::vector<SourceView> views;
        for (size_t s = 0; s < sources.size(); ++s)
            views.push_back(source_view(grey("sources[" + std::to_string(s) + "]", sources[s]), transfers + 12 * s));
        return views;
    }
};

void py_zncc_sweep(In reference, const std::vector<In>& sources, In transfers, In depths, In relief,
                   int window, float noise, Out scores, int threads) {
    const Grey view = grey("reference", reference);
    const Sweep sweep(view, static_cast<int64_t>(sources.size()), transfers, depths, scores, threads);
    need(window % 2 != 0 && window >= 1 && window <= kZnccMostWindow,
         "window is " + std::to_string(window) + ", needed an odd number from 1 to 11");
    const float* const shape = data<const float>("relief", relief, {view.height, view.width});
    need(noise > 0.0f, "noise is " + std::to_string(noise) + ", needed a variance above 0");
    const std::vector<SourceView> views = sweep.views(sources);
    const Isa& isa = chosen_isa();
    nb::gil_scoped_release unlocked;
    zncc_sweep(isa, view, views, sweep.depths, sweep.planes, shape, window, noise, sweep.scores, threads);
}

void py_census_sweep(In reference, const std::vector<In>& sources, In transfers, In depths, In relief, Out scores,
                     int threads) {
    const Grey view = grey("reference", reference);
    const Sweep sweep(view, static_cast<int64_t>(sources.size()), transfers, depths, scores, threads);
    const float* const shape = data<const float>("relief", relief, {view.height, view.width});
    const std::vector<SourceView> views = sweep.views(sources);
    const Isa& isa = chosen_isa();
    nb::gil_scoped_release unlocked;
    census_sweep(isa, view, views, sweep.depths, sweep.planes, shape, sweep.scores, threads);
}

void py_feature_sweep(In reference, In sources, In transfers, In depths, Out scores, int threads) {
    const float* const numbers = data<const float>("reference", reference, {-1, -1, -1});
    const int64_t channels = size(reference, 0);
    const float* const source_numbers = data<const float>("sources", sources, {-1, channels, -1, -1});
    const int64_t count = size(sources, 0), height = size(sources, 2), width = size(sources, 3);
    need(channels >= 1 && channels <= 65536, "reference has " + std::to_string(channels) + " channels, needed 1 to 65536");
    check_pixels("reference", size(reference, 1), size(reference, 2));
    check_pixels("sources", height, width);
    const Grey view = {numbers, static_cast<int>(size(reference, 2)), static_cast<int>(size(reference, 1))};
    const Sweep sweep(view, count, transfers, depths, scores, threads);
    std::vector<SourceView> views;
    for (int64_t s = 0; s < count; ++s)
        views.push_back(source_view({source_numbers + s * channels * height * width, static_cast<int>(width),
                                     static_cast<int>(height)}, sweep.transfers + 12 * s));
    const Isa& isa = chosen_isa();
    nb::gil_scoped_release unlocked;
    feature_sweep(isa, view, static_cast<int>(channels), views, sweep.depths, sweep.planes, sweep.scores, threads);
}

void py_semi_global(In costs, In guide, float small, float large, float edge_weight, int paths, Out total, int threads) {
    AggregateTask prices = {};
    prices.costs = data<const float>("costs", costs, {-1, -1, -1});
    const int64_t height = size(costs, 0), width = size(costs, 1), planes = size(costs, 2);
    check_image_size("costs", width, height, 1);
    need(planes >= 1 && planes <= 65536, "costs has " + std::to_string(planes) + " planes, needed 1 to 65536");
    prices.guide = data<const float>("guide", guide, {height, width});
    float* const to_total = data<float>("total", total, {height, width, planes});
    need(small >= 0.0f, "small is " + std::to_string(small) + ", needed 0 or more");
    need(large >= 0.0f, "large is " + std::to_string(large) + ", needed 0 or more");
    need(edge_weight >= 0.0f, "edge_weight is " + std::to_string(edge_weight) + ", needed 0 or more");
    need(paths == 4 || paths == 8, "paths is " + std::to_string(paths) + ", needed 4 or 8");
    check_threads(threads);
    prices.width = static_cast<int>(width);
    prices.height = static_cast<int>(height);
    prices.planes = static_cast<int>(planes);
    prices.small = small;
    prices.large = large;
    prices.edge_weight = edge_weight;
    const Isa& isa = chosen_isa();
    nb::gil_scoped_release unlocked;
    semi_global(isa, prices, paths, to_total, threads);
}

}  // namespace

void bind_sweep(nb::module_& m) {
    m.def("zncc_sweep", &py_zncc_sweep, "reference"_a.noconvert(), "sources"_a.noconvert(), "transfers"_a.noconvert(),
          "depths"_a.noconvert(), "relief"_a.noconvert(), "window"_a, "noise"_a, "scores"_a.noconvert(), "threads"_a,
          "Fills scores (H, W, D). transfers is (S, 3, 4): the source sees pixel (u, v) at depth z, that of the plane times relief (H, W), at homogeneous "
          "pixel z * transfer[:, :3] (u, v, 1) + transfer[:, 3]. noise is a variance.");
    m.def("census_sweep", &py_census_sweep, "reference"_a.noconvert(), "sources"_a.noconvert(),
          "transfers"_a.noconvert(), "depths"_a.noconvert(), "relief"_a.noconvert(), "scores"_a.noconvert(), "threads"_a,
          "Fills scores (H, W, D), as zncc_sweep does.");
    m.def("feature_sweep", &py_feature_sweep, "reference"_a.noconvert(), "sources"_a.noconvert(),
          "transfers"_a.noconvert(), "depths"_a.noconvert(), "scores"_a.noconvert(), "threads"_a,
          "Fills scores (H, W, D) from features (C, H, W) and (S, C, Hs, Ws), otherwise as zncc_sweep does.");
    m.def("semi_global", &py_semi_global, "costs"_a.noconvert(), "guide"_a.noconvert(), "small"_a, "large"_a,
          "edge_weight"_a, "paths"_a, "total"_a.noconvert(), "threads"_a,
          "Sets total (H, W, D) to costs (H, W, D) summed along 4 or 8 paths; the two must not overlap.");
}

}  // namespace sparse3d
