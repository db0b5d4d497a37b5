#include "bind.h"
#include "warp.h"

namespace sparse3d {

namespace {

void py_forward_warp(const std::vector<In>& images, const std::vector<In>& depths, In transfers, In Ks, float near_plane,
                     float steepest, float tolerance, Out color, Out depth, Out validity, int threads) {
    const int64_t views = static_cast<int64_t>(images.size());
    need(depths.size() == images.size(), "depths has " + std::to_string(depths.size()) + " maps for " +
                                             std::to_string(images.size()) + " images, needed one each");
    const double* const transfer = data<const double>("transfers", transfers, {views, 3, 4});
    const float* const intrinsics = data<const float>("Ks", Ks, {views, 3, 3});
    WarpTask task = {};
    task.depth = data<float>("depth", depth, {-1, -1});
    const int64_t height = size(depth, 0), width = size(depth, 1);
    need(width >= 1 && height >= 1 && width <= kWarpLargest && height <= kWarpLargest,
         "depth is of a target that has not 1 to 16384 pixels on each side");
    task.color = data<float>("color", color, {3, height, width});
    task.validity = data<float>("validity", validity, {height, width});
    need(near_plane > 0.0f, "near_plane is " + std::to_string(near_plane) + ", needed a distance above 0");
    need(steepest > 0.0f, "steepest is " + std::to_string(steepest) + ", needed a tangent above 0");
    need(tolerance > 0.0f, "tolerance is " + std::to_string(tolerance) + ", needed a share above 0");
    check_threads(threads);
    task.width = static_cast<int>(width);
    task.height = static_cast<int>(height);
    task.tolerance = tolerance;
    std::vector<WarpSource> photos(images.size());
    for (int64_t s = 0; s < views; ++s) {
        const std::string number = "[" + std::to_string(s) + "]", name = "images" + number;
        WarpSource& photo = photos[s];
        photo.image = data<const float>(name.c_str(), images[s], {3, -1, -1});
        const int64_t rows = size(images[s], 1), columns = size(images[s], 2);
        check_image_size(name.c_str(), columns, rows, 1);
        need(columns * rows < int64_t{1} << 31, name + " has 2^31 pixels or more");
        photo.depth = data<const float>(("depths" + number).c_str(), depths[s], {rows, columns});
        photo.width = static_cast<int>(columns);
        photo.height = static_cast<int>(rows);
        for (int row = 0; row < 3; ++row) {
            const double* const values = transfer + 12 * s + 4 * row;
            for (int k = 0; k < 3; ++k) photo.turn[3 * row + k] = values[k];
            photo.shift[row] = static_cast<float>(values[3]);
        }
        photo.focal_x = intrinsics[9 * s];
        photo.focal_y = intrinsics[9 * s + 4];
        photo.near_plane = near_plane;
        photo.steepest = steepest;
        photo.target_width = static_cast<int>(width);
        photo.target_height = static_cast<int>(height);
    }
    const Isa& isa = chosen_isa();
    nb::gil_scoped_release unlocked;
    forward_warp(isa, std::move(photos), task, threads);
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
