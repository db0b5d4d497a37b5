// Times training steps of OpenSplat on a scene that benchmarks/harness/opensplat.py wrote.
//
//   opensplat_step SCENE THREADS
//
// Each line on standard input, the index of a view, is one step: the body of the loop in OpenSplat's opensplat.cpp, on
// its own Model. It is answered by a line of the mean absolute difference between the picture, drawn before the step's
// change, and the view (to tell that it drew what was meant), the seconds of CPU time of all threads and the seconds that passed.
// Densification is off, and the step number lies in the second half of its default schedule: all spherical harmonics
// are in use and the statistics for densification are no longer gathered.
#include <ctime>
#include <fstream>
#include <iostream>
#include <stdexcept>
#include <string>

#include "model.hpp"

namespace {

constexpr int kMaxSteps = 30000, kNever = 1 << 30;

class Reader {
public:
    explicit Reader(const std::string& path) : file_(path, std::ios::binary) {
        if (!file_) throw std::runtime_error("cannot read " + path);
    }
    int32_t integer() {
        int32_t value;
        read(&value, sizeof value);
        return value;
    }
    torch::Tensor floats(std::vector<int64_t> shape) {
        torch::Tensor tensor = torch::empty(shape);
        read(tensor.data_ptr<float>(), tensor.nbytes());
        return tensor;
    }

private:
    void read(void* to, size_t bytes) {
        if (!file_.read(static_cast<char*>(to), static_cast<std::streamsize>(bytes))) throw std::runtime_error("the scene file ends early");
    }
    std::ifstream file_;
};

double seconds(clockid_t clock) {
    timespec now;
    clock_gettime(clock, &now);
    return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

// OpenSplat's cameras have y up and z backwards.
Camera make_camera(Reader& file, int height, int width) {
    const torch::Tensor K = file.floats({3, 3}), c2w = file.floats({4, 4});
    const torch::Tensor flip = torch::diag(torch::tensor({1.0f, -1.0f, -1.0f, 1.0f}));
    Camera camera(width, height, K[0][0].item<float>(), K[1][1].item<float>(), K[0][2].item<float>(), K[1][2].item<float>(),
                  0, 0, 0, 0, 0, c2w.matmul(flip), "");
    camera.image = file.floats({height, width, 3});
    return camera;
}

// A Model of its own defaults; made of a few points, then given the Gaussians as its loadPly does.
void load(Model& model, Reader& file, int64_t count) {
    model.means = file.floats({count, 3}).requires_grad_();
    model.scales = file.floats({count, 3}).requires_grad_();
    model.quats = file.floats({count, 4}).requires_grad_();
    model.opacities = file.floats({count, 1}).requires_grad_();
    model.featuresDc = file.floats({count, 3}).requires_grad_();
    model.featuresRest = file.floats({count, 15, 3}).requires_grad_();
    model.backgroundColor = file.floats({3});
    model.setupOptimizers();
}

void run(const std::string& path, int threads) {
    at::set_num_threads(threads);
    Reader file(path);
    const int64_t count = file.integer();
    const int views = file.integer(), height = file.integer(), width = file.integer();
    InputData few;
    few.scale = 1.0f;
    few.translation = torch::zeros({3});
    few.points = {torch::rand({8, 3}), torch::zeros({8, 3})};
    Model model(few, views, /*numDownscales=*/0, /*resolutionSchedule=*/3000, /*shDegree=*/3, /*shDegreeInterval=*/1000,
                /*refineEvery=*/100, /*warmupLength=*/kNever, /*resetAlphaEvery=*/30, /*densifyGradThresh=*/0.0002f,
                /*densifySizeThresh=*/0.01f, /*stopScreenSizeAt=*/4000, /*splitScreenSize=*/0.05f, kMaxSteps,
                /*keepCrs=*/false, torch::kCPU);
    load(model, file, count);
    std::vector<Camera> cameras;
    for (int v = 0; v < views; ++v) cameras.push_back(make_camera(file, height, width));

    size_t index;
    for (int step = kMaxSteps / 2; std::cin >> index; ++step) {
        const double cpu = seconds(CLOCK_PROCESS_CPUTIME_ID), wall = seconds(CLOCK_MONOTONIC);
        Camera& camera = cameras.at(index);
        model.optimizersZeroGrad();
        torch::Tensor rgb = model.forward(camera, step);
        torch::Tensor target = camera.getImage(model.getDownscaleFactor(step));
        torch::Tensor loss = model.mainLoss(rgb, target, 0.2f);
        loss.backward();
        model.optimizersStep();
        model.schedulersStep(step);
        model.afterTrain(step);
        loss.item<float>();
        const double spent = seconds(CLOCK_PROCESS_CPUTIME_ID) - cpu, passed = seconds(CLOCK_MONOTONIC) - wall;
        std::cout << l1(rgb, target).item<float>() << ' ' << spent << ' ' << passed << std::endl;
    }
}

}  // namespace

int main(int argc, char** argv) {
    if (argc != 3) {
        std::cerr << "usage: opensplat_step SCENE THREADS" << std::endl;
        return 2;
    }
    try {
        run(argv[1], std::stoi(argv[2]));
    } catch (const std::exception& error) {
        std::cerr << "opensplat_step: " << error.what() << std::endl;
        return 1;
    }
}
