#include "adam.h"

namespace sparse3d {

AdamTensor adam_tensor(float* values, float* mean, float* square, const float* rates, int floats) {
    AdamTensor tensor = {};
    tensor.values = values;
    tensor.mean = mean;
    tensor.square = square;
    tensor.floats = floats;
    for (int row = 0, at = 0; row < kRowGroup; ++row) {
        for (int k = 0; k < floats; ++k, ++at) {
            tensor.rates[at] = rates[k];
            tensor.rows[at] = static_cast<uint32_t>(row);
        }
    }
    return tensor;
}

}  // namespace sparse3d
