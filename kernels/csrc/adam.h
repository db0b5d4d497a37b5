// Parameters as the optimizer's stage takes them.
#pragma once

#include "layout_adam.h"

namespace sparse3d {

// Of rows of `floats` numbers; `rates` (floats) are their learning rates, with the first bias correction in them.
AdamTensor adam_tensor(float* values, float* mean, float* square, const float* rates, int floats);

}  // namespace sparse3d
