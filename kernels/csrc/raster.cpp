#include "raster.h"

#include <algorithm>
#include <stdexcept>
#include <utility>

#include "thread_pool.h"

namespace sparse3d {

namespace {

constexpr uint64_t kMostEntries = uint64_t{1} << 31;
constexpr uint64_t kPiece = kExactMemory ? 1 : uint64_t{1} << 19;  // entries of an arena's piece, at least

// Memory of one worker, as large as its largest region so far.
class Workshop {
   public:
    RegionScratch with_room_for(int64_t count) {
        const int64_t padded = count + kMostLanes;
        numbers_.resize(kScratchArrays * padded);
        uint32_t* next = numbers_.data();
        const auto take = [&next, padded] { return std::exchange(next, next + padded); };
        RegionScratch scratch = {};
        for (uint32_t** array : {&scratch.keys, &scratch.other_keys, &scratch.places, &scratch.other_places}) *array = take();
        for (int half = 0; half < 2; ++half) {
            scratch.tiles[half] = take();
            scratch.sorted_tiles[half] = take();
        }
        for (int row = 0; row < kRegionTiles; ++row) {
            scratch.row_places[row] = take();
            scratch.row_columns[row] = take();
        }
        return scratch;
    }

   private:
    Buffer<uint32_t> numbers_;
};

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
    camera.regions_x = (cameras.width + kRegion - 1) / kRegion;
    camera.regions_y = (cameras.height + kRegion - 1) / kRegion;
    camera.antialiased = cameras.antialiased;
    std::copy_n(cameras.background, 3, camera.background);
    return camera;
}

int64_t region_count(const Camera& camera) { return static_cast<int64_t>(camera.regions_x) * camera.regions_y; }

// `images` moved on to view v.
Images at_view(const Images& images, const Camera& camera, int64_t v) {
    const int64_t first = v * camera.width * camera.height;
    return {images.rgb + 3 * first, images.alpha + first, images.depth ? images.depth + first : nullptr,
            images.median ? images.median + first : nullptr};
}

BlendTask blend_task(const View& view, const Images& images) {
    BlendTask task = {};
    task.camera = &view.camera;
    task.region_splats = const_cast<Splat*>(view.splats.data());  // only the forward pass writes them, as the lists
    task.members = view.members.members.data();
    task.region_begin = view.members.region_begin.data();
    task.lists = const_cast<RegionLists*>(view.lists.data());
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

void set_to_zero(const Gaussians& gaussians, const GaussianGradients& gradients) {
    std::fill_n(gradients.means, 3 * gaussians.count, 0.0f);
    std::fill_n(gradients.quats, 4 * gaussians.count, 0.0f);
    std::fill_n(gradients.scales, 3 * gaussians.count, 0.0f);
    std::fill_n(gradients.opacities, gaussians.count, 0.0f);
    std::fill_n(gradients.colors, gaussians.color_stride * gaussians.count, 0.0f);
}

}  // namespace

uint32_t* Arena::reserve(uint64_t count) {
    if (pieces_.empty() || size_ - used_ < count) {
        size_ = std::max(count, kPiece);
        used_ = 0;
        pieces_.emplace_back(size_);
    }
    return pieces_.back().data() + used_;
}

void Arena::clear() {
    pieces_.clear();
    used_ = size_ = 0;
}

int64_t Context::pairs() const {
    int64_t entries = 0;
    for (const View& view : views)
        for (int64_t region = 0; region < region_count(view.camera); ++region)
            for (int tile = 0; tile < kTilesInRegion; ++tile)
                entries += view.lists[region].stop[tile] - view.lists[region].begin[tile];
    return entries * kTilePixels;
}

Context forward(const Isa& isa, const Gaussians& gaussians, const Cameras& cameras, const Images& images, bool keep,
                int threads) {
    Context context;
    context.count = gaussians.count;
    context.views.resize(keep ? cameras.count : std::min<int64_t>(cameras.count, 1));
    const int64_t padded = gaussians.count + kMostLanes;
    RegionCounts counts;
    counts.boxes_x.resize(padded);
    counts.boxes_y.resize(padded);
    Buffer<Splat> splats(padded);
    const RegionBoxes boxes = {counts.boxes_x.data(), counts.boxes_y.data()};
    std::vector<Workshop> workshops(threads);
    for (int64_t v = 0; v < cameras.count; ++v) {
        View& view = context.views[keep ? v : 0];
        view.camera = make_camera(cameras, v);
        parallel_for(gaussians.count, kBlock, threads, [&](int64_t begin, int64_t end, int) {
            isa.project_forward(gaussians, view.camera, begin, end, splats.data(), boxes);
        });
        find_members(view.camera, gaussians.count, threads, counts, view.members);

        const int64_t regions = region_count(view.camera);
        view.lists.resize(regions);
        view.splats.resize(view.members.region_begin[regions] + regions * kMostLanes);
        view.arenas.resize(threads);
        for (Arena& arena : view.arenas) arena.clear();
        BlendTask task = blend_task(view, at_view(images, view.camera, v));
        task.splats = splats.data();
        parallel_for(regions, 1, threads, [&](int64_t region, int64_t, int worker) {
            RegionScratch scratch = workshops[worker].with_room_for(task.region_begin[region + 1] - task.region_begin[region]);
            const uint64_t most = isa.list_rows(task, region, scratch);
            if (most >= kMostEntries)
                throw std::length_error("means: 2^31 or more Gaussians and tiles meet in 32 x 32 pixels; draw fewer Gaussians");
            Arena& arena = view.arenas[worker];
            task.lists[region].entries = arena.reserve(most);
            arena.keep(isa.list_tiles(task, region, scratch));
            isa.blend_forward(task, region);
        });
    }
    if (!keep) context.views.clear();
    return context;
}

namespace {

// The gradient sums of one view's splats: sets `slots` and `background_sums` (regions, 3).
SlotTable blend_gradients(const Isa& isa, const View& view, const Images& images, const ImageGradients& image_gradients, int64_t count,
                          Buffer<Slot>& slots, Buffer<float>& background_sums, int threads) {
    const Members& members = view.members;
    const int64_t regions = region_count(view.camera);
    slots.resize(members.region_begin[regions]);
    background_sums.resize(3 * regions);
    BlendTask task = blend_task(view, images);
    task.grad_rgb = image_gradients.rgb;
    task.grad_alpha = image_gradients.alpha;
    task.grad_depth = image_gradients.depth;
    task.slots = slots.data();
    task.background_sums = background_sums.data();
    parallel_for(regions, 1, threads, [&](int64_t region, int64_t, int) { isa.blend_backward(task, region); });
    return {count, members.place_begin.data(), members.places.data(), slots.data()};
}

}  // namespace

void backward(const Isa& isa, const Context& context, const Gaussians& gaussians, const Images& images,
              const ImageGradients& image_gradients, const GaussianGradients& gradients, float* viewmats, float* background,
              int threads) {
    const int64_t blocks = (gaussians.count + kBlock - 1) / kBlock;
    std::fill_n(viewmats, 16 * context.views.size(), 0.0f);
    std::fill_n(background, 3, 0.0f);
    if (context.views.empty()) set_to_zero(gaussians, gradients);
    Buffer<Slot> slots;
    Buffer<float> background_sums, block_sums(blocks * kCameraSums);
    for (size_t v = 0; v < context.views.size(); ++v) {
        const View& view = context.views[v];
        const int64_t first = static_cast<int64_t>(v) * view.camera.width * view.camera.height;
        const ImageGradients of_view = {image_gradients.rgb ? image_gradients.rgb + 3 * first : nullptr,
                                        image_gradients.alpha ? image_gradients.alpha + first : nullptr,
                                        image_gradients.depth ? image_gradients.depth + first : nullptr};
        const SlotTable table = blend_gradients(isa, view, at_view(images, view.camera, static_cast<int64_t>(v)), of_view,
                                                gaussians.count, slots, background_sums, threads);
        for (int64_t region = 0; region < region_count(view.camera); ++region)
            for (int k = 0; k < 3; ++k) background[k] += background_sums[3 * region + k];
        parallel_for(blocks, 1, threads, [&](int64_t block, int64_t, int) {
            isa.project_backward(gaussians, view.camera, block * kBlock, std::min((block + 1) * kBlock, gaussians.count), table,
                                 v == 0, gradients, block_sums.data() + block * kCameraSums);
        });
        add_viewmat_gradient(view.camera, block_sums.data(), blocks, viewmats + 16 * v);
    }
}

void update(const Isa& isa, const Context& context, const Gaussians& gaussians, const Images& images,
            const ImageGradients& image_gradients, const AdamTask& task, int threads) {
    const View& view = context.views[0];
    Buffer<Slot> slots;
    Buffer<float> background_sums;
    const SlotTable table =
        blend_gradients(isa, view, images, image_gradients, gaussians.count, slots, background_sums, threads);
    parallel_for(gaussians.count, kBlock, threads, [&](int64_t begin, int64_t end, int) {
        isa.update(gaussians, view.camera, begin, end, table, task);
    });
}

}  // namespace sparse3d
