// One step of an optimizer over rows of parameters.
#pragma once

#include <cstdint>

#include "isa.h"

namespace sparse3d {

void selective_adam(const Isa& isa, const AdamTask& task, int64_t rows, int threads);

}  // namespace sparse3d
