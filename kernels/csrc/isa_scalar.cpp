// The stages for the architecture's baseline, always built.
#define SPARSE3D_ISA_SYMBOL isa_scalar
#define SPARSE3D_ISA_NAME "scalar"
#include "lanes_isa.h"
