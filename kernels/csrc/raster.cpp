#include "raster.h"

#include <algorithm>

#include "thread_pool.h"

namespace sparse3d {

namespace {

constexpr int kTilesAtOnce = 8;

Camera make_camera(const Cameras& cameras, int64_t v) {
    Camera camera = {};
    const float* viewmat = cameras.viewmats + 16 * v;
    const float* K = cameras.intrinsics + 9 * v;
    for (int row = 0; row < 3; ++row) {
        for (int k = 0; k < 3; ++k) camera.R[3 * row + k] = viewmat[4 * row + k];
        camera.t[row] = viewmat[4 * row + 3];
    }
    for (int k = 0; k < 3; ++k)
        camera.centre[k] = -(camera.R[k] * camera.t[0] + camera.R[3 + k] * camera.t[1] + camera.R[6 + k] * camera.t[2]);
    camera.fx = K[0];
    camera.fy = K[4];
    camera.cx = K[2];
    camera.cy = K[5];
    // the image widened by 15 % of its size on each side
    const float margin_x = 0.15f * cameras.width / camera.fx, margin_y = 0.15f * cameras.height / camera.fy;
    camera.min_x = -(camera.cx / camera.fx + margin_x);
    camera.max_x = (cameras.width - camera.cx) / camera.fx + margin_x;
    camera.min_y = -(camera.cy / camera.fy + margin_y);
    camera.max_y = (cameras.height - camera.cy) / camera.fy + margin_y;
    camera.near_plane = cameras.near_plane;
    camera.far_plane = cameras.far_plane;
    camera.eps2d = cameras.eps2d;
    camera.width = cameras.width;
    camera.height = cameras.height;
    camera.tiles_x = (cameras.width + kTile - 1) / kTile;
    camera.tiles_y = (cameras.height + kTile - 1) / kTile;
    camera.antialiased = cameras.antialiased;
    std::copy_n(cameras.background, 3, camera.background);
    return camera;
}

int64_t tile_count(const Camera& camera) { return static_cast<int64_t>(camera.tiles_x) * camera.tiles_y; }

// `images` moved on to view v.
Images at_view(const Images& images, const Camera& camera, int64_t v) {
    const int64_t first = v * camera.width * camera.height;
    return {images.rgb + 3 * first, images.alpha + first, images.depth + first, images.median + first};
}

BlendTask blend_task(const View& view, const Images& images) {
    BlendTask task = {};
    task.camera = &view.camera;
    task.splats = view.splats.data();
    task.entries = view.lists.entries.data();
    task.tile_begin = view.lists.tile_begin.data();
    task.tile_stop = const_cast<uint32_t*>(view.tile_stop.data());  // only the forward pass writes it
    task.rgb = images.rgb;
    task.alpha = images.alpha;
    task.depth = images.depth;
    task.median = images.median;
    return task;
}

// Gradient of a view matrix from the sums of its blocks, one after the other. The centre is -R^T t.
void add_viewmat_gradient(const Camera& camera, const float* block_sums, int64_t blocks, float* viewmat) {
    float sums[kCameraSums] = {};
    for (int64_t block = 0; block < blocks; ++block)
        for (int k = 0; k < kCameraSums; ++k) sums[k] += block_sums[block * kCameraSums + k];
    const float* centre = sums + 12;
    for (int row = 0; row < 3; ++row) {
        float translation = sums[9 + row];
        for (int k = 0; k < 3; ++k) {
            viewmat[4 * row + k] += sums[3 * row + k] - camera.t[row] * centre[k];
            translation -= camera.R[3 * row + k] * centre[k];
        }
        viewmat[4 * row + 3] += translation;
    }
}

}  // namespace

Context forward(const Gaussians& gaussians, const Cameras& cameras, const Images& images, bool keep, int threads) {
    const Isa& isa = chosen_isa();
    Context context;
    context.count = gaussians.count;
    context.views.resize(keep ? cameras.count : std::min<int64_t>(cameras.count, 1));
    Buffer<TileBox> boxes(gaussians.count);
    TileScratch scratch;
    for (int64_t v = 0; v < cameras.count; ++v) {
        View& view = context.views[keep ? v : 0];
        view.camera = make_camera(cameras, v);
        view.splats.resize(gaussians.count + 1);  // one more: the padding of the lists points at the first
        parallel_for(gaussians.count, kBlock, threads, [&](int64_t begin, int64_t end, int) {
            for (int64_t i = begin; i < end; i += kBlock)
                isa.project_forward(gaussians, view.camera, i, std::min(i + kBlock, end), view.splats.data(), boxes.data());
        });
        make_tile_lists(view.camera, gaussians.count, view.splats.data(), boxes.data(), threads, scratch, view.lists);
        view.tile_stop.resize(tile_count(view.camera));
        const BlendTask task = blend_task(view, at_view(images, view.camera, v));
        parallel_for(tile_count(view.camera), kTilesAtOnce, threads,
                     [&](int64_t begin, int64_t end, int) { isa.blend_forward(task, begin, end); });
    }
    if (!keep) context.views.clear();
    return context;
}

void backward(const Context& context, const Gaussians& gaussians, const Images& images, const ImageGradients& image_gradients,
              const GaussianGradients& gradients, float* viewmats, float* background, int threads) {
    const Isa& isa = chosen_isa();
    const int64_t blocks = (gaussians.count + kBlock - 1) / kBlock;
    std::fill_n(viewmats, 16 * context.views.size(), 0.0f);
    std::fill_n(background, 3, 0.0f);
    parallel_for(gaussians.count, kBlock, threads, [&](int64_t begin, int64_t end, int) {
        std::fill(gradients.means + 3 * begin, gradients.means + 3 * end, 0.0f);
        std::fill(gradients.quats + 4 * begin, gradients.quats + 4 * end, 0.0f);
        std::fill(gradients.scales + 3 * begin, gradients.scales + 3 * end, 0.0f);
        std::fill(gradients.opacities + begin, gradients.opacities + end, 0.0f);
        std::fill(gradients.colors + gaussians.color_stride * begin, gradients.colors + gaussians.color_stride * end, 0.0f);
    });
    Buffer<Slot> slots;
    Buffer<float> background_sums, block_sums(blocks * kCameraSums);
    for (size_t v = 0; v < context.views.size(); ++v) {
        const View& view = context.views[v];
        const int64_t tiles = tile_count(view.camera);
        const int64_t first = static_cast<int64_t>(v) * view.camera.width * view.camera.height;
        slots.resize(view.lists.entry_count + 1);
        background_sums.resize(3 * tiles);

        BlendTask task = blend_task(view, at_view(images, view.camera, static_cast<int64_t>(v)));
        task.grad_rgb = image_gradients.rgb ? image_gradients.rgb + 3 * first : nullptr;
        task.grad_alpha = image_gradients.alpha ? image_gradients.alpha + first : nullptr;
        task.grad_depth = image_gradients.depth ? image_gradients.depth + first : nullptr;
        task.slots = slots.data();
        task.background_sums = background_sums.data();
        parallel_for(tiles, kTilesAtOnce, threads,
                     [&](int64_t begin, int64_t end, int) { isa.blend_backward(task, begin, end); });
        for (int64_t tile = 0; tile < tiles; ++tile)
            for (int k = 0; k < 3; ++k) background[k] += background_sums[3 * tile + k];

        parallel_for(blocks, 1, threads, [&](int64_t begin, int64_t end, int) {
            for (int64_t block = begin; block < end; ++block)
                isa.project_backward(gaussians, view.camera, block * kBlock, std::min((block + 1) * kBlock, gaussians.count),
                                     view.splats.data(), view.lists.slot_begin.data(), slots.data(), gradients,
                                     block_sums.data() + block * kCameraSums);
        });
        add_viewmat_gradient(view.camera, block_sums.data(), blocks, viewmats + 16 * v);
    }
}

}  // namespace sparse3d
