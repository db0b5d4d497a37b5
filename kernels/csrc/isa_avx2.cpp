// The stages for AVX2 and FMA.
#define SPARSE3D_ISA_SYMBOL isa_avx2
#define SPARSE3D_ISA_NAME "avx2"
#include "lanes_isa.h"
