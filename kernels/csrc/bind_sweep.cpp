#include "bind.h"
#include "sweep.h"

namespace sparse3d {

namespace {

using InFeatures = In<nb::ndim<4>>;

void check_size(const std::string& name, int64_t height, int64_t width) {
    if (width < 1 || height < 1) throw std::invalid_argument(name + " has no pixels");
    if (width > 65536 || height > 65536 || width * height >= int64_t{1} << 31)
        throw std::invalid_argument(name + " is over 65536 pixels on a side or 2^31 in all");
}

Grey grey(const std::string& name, const InRows& image) {
    const int64_t height = static_cast<int64_t>(image.shape(0)), width = static_cast<int64_t>(image.shape(1));
    check_size(name, height, width);
    return {image.data(), static_cast<int>(width), static_cast<int>(height)};
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

// Holds what the sweeps have in common to its shapes. Returns how many planes there are.
int check_sweep(const Grey& view, int64_t sources, const InTransfers& transfers, const InVector& depths,
                const OutStack& scores, int threads) {
    const int64_t planes = static_cast<int64_t>(depths.shape(0));
    check("transfers", transfers, {sources, 3, 4});
    check("scores", scores, {view.height, view.width, planes});
    if (sources < 1) throw std::invalid_argument("no sources");
    if (planes < 1 || planes > 65536) throw std::invalid_argument("depths must hold 1 to 65536 planes");
    check_threads(threads);
    return static_cast<int>(planes);
}

std::vector<SourceView> source_views(const std::vector<InRows>& sources, const InTransfers& transfers) {
    std::vector<SourceView> views;
    for (size_t s = 0; s < sources.size(); ++s)
        views.push_back(source_view(grey("source", sources[s]), transfers.data() + 12 * s));
    return views;
}

void py_zncc_sweep(InRows reference, const std::vector<InRows>& sources, InTransfers transfers, InVector depths,
                   int window, float noise, OutStack scores, int threads) {
    const Grey view = grey("reference", reference);
    const int planes = check_sweep(view, static_cast<int64_t>(sources.size()), transfers, depths, scores, threads);
    if (window % 2 == 0 || window < 1 || window > kZnccMostWindow)
        throw std::invalid_argument("window must be odd, 1 to 11");
    if (!(noise > 0.0f)) throw std::invalid_argument("noise must be positive");
    const std::vector<SourceView> views = source_views(sources, transfers);
    nb::gil_scoped_release unlocked;
    zncc_sweep(view, views, depths.data(), planes, window, noise, scores.data(), threads);
}

void py_census_sweep(InRows reference, const std::vector<InRows>& sources, InTransfers transfers, InVector depths,
                     OutStack scores, int threads) {
    const Grey view = grey("reference", reference);
    const int planes = check_sweep(view, static_cast<int64_t>(sources.size()), transfers, depths, scores, threads);
    const std::vector<SourceView> views = source_views(sources, transfers);
    nb::gil_scoped_release unlocked;
    census_sweep(view, views, depths.data(), planes, scores.data(), threads);
}

void py_feature_sweep(InStack reference, InFeatures sources, InTransfers transfers, InVector depths, OutStack scores,
                      int threads) {
    const int64_t channels = static_cast<int64_t>(reference.shape(0)), count = static_cast<int64_t>(sources.shape(0));
    const int64_t height = static_cast<int64_t>(sources.shape(2)), width = static_cast<int64_t>(sources.shape(3));
    check("sources", sources, {count, channels, height, width});
    if (channels < 1 || channels > 65536) throw std::invalid_argument("features must have 1 to 65536 channels");
    check_size("reference", static_cast<int64_t>(reference.shape(1)), static_cast<int64_t>(reference.shape(2)));
    check_size("sources", height, width);
    const Grey view = {reference.data(), static_cast<int>(reference.shape(2)), static_cast<int>(reference.shape(1))};
    const int planes = check_sweep(view, count, transfers, depths, scores, threads);
    std::vector<SourceView> views;
    for (int64_t s = 0; s < count; ++s)
        views.push_back(source_view({sources.data() + s * channels * height * width, static_cast<int>(width),
                                     static_cast<int>(height)}, transfers.data() + 12 * s));
    nb::gil_scoped_release unlocked;
    feature_sweep(view, static_cast<int>(channels), views, depths.data(), planes, scores.data(), threads);
}

void py_semi_global(InStack costs, InRows guide, float small, float large, float edge_weight, int paths, OutStack total,
                    int threads) {
    const int64_t height = static_cast<int64_t>(guide.shape(0)), width = static_cast<int64_t>(guide.shape(1));
    const int64_t planes = static_cast<int64_t>(costs.shape(2));
    check("costs", costs, {height, width, planes});
    check("total", total, {height, width, planes});
    if (width < 1 || height < 1 || planes < 1) throw std::invalid_argument("costs has no pixels or no planes");
    if (width > 65536 || height > 65536 || planes > 65536)
        throw std::invalid_argument("costs may be at most 65536 on a side");
    if (paths != 4 && paths != 8) throw std::invalid_argument("paths must be 4 or 8");
    check_threads(threads);
    AggregateTask prices = {};
    prices.width = static_cast<int>(width);
    prices.height = static_cast<int>(height);
    prices.planes = static_cast<int>(planes);
    prices.costs = costs.data();
    prices.guide = guide.data();
    prices.small = small;
    prices.large = large;
    prices.edge_weight = edge_weight;
    nb::gil_scoped_release unlocked;
    semi_global(prices, paths, total.data(), threads);
}

}  // namespace

void bind_sweep(nb::module_& m) {
    m.def("zncc_sweep", &py_zncc_sweep, "reference"_a.noconvert(), "sources"_a.noconvert(), "transfers"_a.noconvert(),
          "depths"_a.noconvert(), "window"_a, "noise"_a, "scores"_a.noconvert(), "threads"_a,
          "Fills scores (H, W, D). transfers is (S, 3, 4): the source sees pixel (u, v) at depth z at homogeneous "
          "pixel z * transfer[:, :3] (u, v, 1) + transfer[:, 3]. noise is a variance.");
    m.def("census_sweep", &py_census_sweep, "reference"_a.noconvert(), "sources"_a.noconvert(),
          "transfers"_a.noconvert(), "depths"_a.noconvert(), "scores"_a.noconvert(), "threads"_a,
          "Fills scores (H, W, D), as zncc_sweep does.");
    m.def("feature_sweep", &py_feature_sweep, "reference"_a.noconvert(), "sources"_a.noconvert(),
          "transfers"_a.noconvert(), "depths"_a.noconvert(), "scores"_a.noconvert(), "threads"_a,
          "Fills scores (H, W, D) from features (C, H, W) and (S, C, Hs, Ws), otherwise as zncc_sweep does.");
    m.def("semi_global", &py_semi_global, "costs"_a.noconvert(), "guide"_a.noconvert(), "small"_a, "large"_a,
          "edge_weight"_a, "paths"_a, "total"_a.noconvert(), "threads"_a,
          "Sets total (H, W, D) to costs (H, W, D) summed along 4 or 8 paths; the two must not overlap.");
}

}  // namespace sparse3d
