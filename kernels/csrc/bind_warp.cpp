#include "bind.h"
#include "warp.h"

namespace sparse3d {

namespace {

void py_forward_warp(const std::vector<InPlanes>& images, const std::vector<InRows>& depths, InTransfers transfers,
                     InStack Ks, float near_plane, float steepest, float tolerance, OutPlanes color, OutRows depth,
                     OutRows validity, int threads) {
    const int64_t views = static_cast<int64_t>(images.size());
    const int64_t height = static_cast<int64_t>(depth.shape(0)), width = static_cast<int64_t>(depth.shape(1));
    if (depths.size() != images.size()) throw std::invalid_argument("needed one depth map for each image");
    check("transfers", transfers, {views, 3, 4});
    check("Ks", Ks, {views, 3, 3});
    check("color", color, {3, height, width});
    check("validity", validity, {height, width});
    if (width < 1 || height < 1 || width > kWarpLargest || height > kWarpLargest)
        throw std::invalid_argument("the target must have 1 to 16384 pixels on each side");
    if (!(near_plane > 0.0f && steepest > 0.0f && tolerance > 0.0f))
        throw std::invalid_argument("near_plane, steepest and tolerance must be positive");
    check_threads(threads);
    std::vector<WarpSource> photos(images.size());
    for (int64_t s = 0; s < views; ++s) {
        const int64_t rows = static_cast<int64_t>(images[s].shape(1));
        const int64_t columns = static_cast<int64_t>(images[s].shape(2));
        check("depth", depths[s], {rows, columns});
        if (columns < 1 || rows < 1 || columns > 65536 || rows > 65536 || columns * rows >= int64_t{1} << 31)
            throw std::invalid_argument("a photo must have 1 to 65536 pixels on each side and under 2^31 in all");
        WarpSource& photo = photos[s];
        photo.width = static_cast<int>(columns);
        photo.height = static_cast<int>(rows);
        photo.image = images[s].data();
        photo.depth = depths[s].data();
        for (int row = 0; row < 3; ++row) {
            const double* const values = transfers.data() + 12 * s + 4 * row;
            for (int k = 0; k < 3; ++k) photo.turn[3 * row + k] = values[k];
            photo.shift[row] = static_cast<float>(values[3]);
        }
        photo.focal_x = Ks.data()[9 * s];
        photo.focal_y = Ks.data()[9 * s + 4];
        photo.near_plane = near_plane;
        photo.steepest = steepest;
        photo.target_width = static_cast<int>(width);
        photo.target_height = static_cast<int>(height);
    }
    WarpTask task = {};
    task.width = static_cast<int>(width);
    task.height = static_cast<int>(height);
    task.tolerance = tolerance;
    task.color = color.data();
    task.depth = depth.data();
    task.validity = validity.data();
    nb::gil_scoped_release unlocked;
    forward_warp(std::move(photos), task, threads);
}

}  // namespace

void bind_warp(nb::module_& m) {
    m.def("forward_warp", &py_forward_warp, "images"_a.noconvert(), "depths"_a.noconvert(), "transfers"_a.noconvert(),
          "Ks"_a.noconvert(), "near_plane"_a, "steepest"_a, "tolerance"_a, "color"_a.noconvert(), "depth"_a.noconvert(),
          "validity"_a.noconvert(), "threads"_a,
          "Fills color (3, H, W), depth and validity (H, W) from images (3, Hs, Ws) with depths (Hs, Ws). transfers is "
          "(V, 3, 4): what pixel (u, v) shows at depth z is seen at homogeneous pixel z * transfer[:, :3] (u, v, 1) + "
          "transfer[:, 3]. steepest is a tangent.");
}

}  // namespace sparse3d
