#include "bind.h"
#include "sweep.h"

namespace sparse3d {

namespace {

Grey grey(const std::string& name, const In& image) {
    const float* const pixels = data<const float>(name.c_str(), image, {-1, -1});
    const int64_t height = size(image, 0), width = size(image, 1);
    check_image_size(name.c_str(), width, height, 1);
    need(width * height < int64_t{1} << 31, name + " has 2^31 pixels or more");
    return {pixels, static_cast<int>(width), static_cast<int>(height)};
}

void py_zncc_sweep(In reference, const std::vector<In>& sources, In transfers, In depths, int window, float noise, Out scores,
                   int threads) {
    const Grey view = grey("reference", reference);
    const int64_t count = static_cast<int64_t>(sources.size());
    need(count >= 1, "sources is empty");
    const double* const numbers = data<const double>("transfers", transfers, {count, 3, 4});
    const float* const planes_at = data<const float>("depths", depths, {-1});
    const int64_t planes = size(depths, 0);
    need(planes >= 1 && planes <= 65536, "depths has " + std::to_string(planes) + " planes, needed 1 to 65536");
    need(window % 2 != 0 && window >= 1 && window <= kSweepMostWindow,
         "window is " + std::to_string(window) + ", needed an odd number from 1 to 11");
    need(noise > 0.0f, "noise is " + std::to_string(noise) + ", needed a variance above 0");
    float* const to_scores = data<float>("scores", scores, {view.height, view.width, planes});
    check_threads(threads);
    std::vector<SourceView> views;
    for (int64_t s = 0; s < count; ++s) {
        SourceView source = {grey("sources[" + std::to_string(s) + "]", sources[s]), {}, {}};
        for (int row = 0; row < 3; ++row) {
            const double* const values = numbers + 12 * s + 4 * row;
            for (int k = 0; k < 3; ++k) source.turn[3 * row + k] = values[k];
            source.shift[row] = values[3];
        }
        views.push_back(source);
    }
    const Isa& isa = chosen_isa();
    nb::gil_scoped_release unlocked;
    zncc_sweep(isa, view, views, planes_at, static_cast<int>(planes), window, noise, to_scores, threads);
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
          "depths"_a.noconvert(), "window"_a, "noise"_a, "scores"_a.noconvert(), "threads"_a,
          "Fills scores (H, W, D). transfers is (S, 3, 4): the source sees pixel (u, v) at depth z at homogeneous "
          "pixel z * transfer[:, :3] (u, v, 1) + transfer[:, 3]. noise is a variance.");
    m.def("semi_global", &py_semi_global, "costs"_a.noconvert(), "guide"_a.noconvert(), "small"_a, "large"_a,
          "edge_weight"_a, "paths"_a, "total"_a.noconvert(), "threads"_a,
          "Sets total (H, W, D) to costs (H, W, D) summed along 4 or 8 paths; the two must not overlap.");
}

}  // namespace sparse3d
