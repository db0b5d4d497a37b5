#include "bind.h"
#include "sweep.h"

namespace sparse3d {

namespace {

void py_zncc_sweep(InRows reference, const std::vector<InRows>& sources, InTransfers transfers, InVector depths,
                   int window, float noise, OutStack scores, int threads) {
    const auto grey = [](const char* name, const InRows& image) {
        const int64_t height = static_cast<int64_t>(image.shape(0)), width = static_cast<int64_t>(image.shape(1));
        if (width < 1 || height < 1) throw std::invalid_argument(std::string(name) + " has no pixels");
        if (width > 65536 || height > 65536 || width * height >= int64_t{1} << 31)
            throw std::invalid_argument(std::string(name) + " is over 65536 pixels on a side or 2^31 in all");
        return Grey{image.data(), static_cast<int>(width), static_cast<int>(height)};
    };
    const Grey view = grey("reference", reference);
    const int64_t planes = static_cast<int64_t>(depths.shape(0)), count = static_cast<int64_t>(sources.size());
    check("transfers", transfers, {count, 3, 4});
    check("scores", scores, {view.height, view.width, planes});
    if (count < 1) throw std::invalid_argument("no sources");
    if (planes < 1 || planes > 65536) throw std::invalid_argument("depths must hold 1 to 65536 planes");
    if (window % 2 == 0 || window < 1 || window > kSweepMostWindow)
        throw std::invalid_argument("window must be odd, 1 to 11");
    if (!(noise > 0.0f)) throw std::invalid_argument("noise must be positive");
    check_threads(threads);
    std::vector<SourceView> views;
    for (int64_t s = 0; s < count; ++s) {
        SourceView source = {grey("source", sources[s]), {}, {}};
        for (int row = 0; row < 3; ++row) {
            const double* const values = transfers.data() + 12 * s + 4 * row;
            for (int k = 0; k < 3; ++k) source.turn[3 * row + k] = values[k];
            source.shift[row] = values[3];
        }
        views.push_back(source);
    }
    nb::gil_scoped_release unlocked;
    zncc_sweep(view, views, depths.data(), static_cast<int>(planes), window, noise, scores.data(), threads);
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
    m.def("semi_global", &py_semi_global, "costs"_a.noconvert(), "guide"_a.noconvert(), "small"_a, "large"_a,
          "edge_weight"_a, "paths"_a, "total"_a.noconvert(), "threads"_a,
          "Sets total (H, W, D) to costs (H, W, D) summed along 4 or 8 paths; the two must not overlap.");
}

}  // namespace sparse3d
