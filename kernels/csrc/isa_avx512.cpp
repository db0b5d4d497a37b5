// The stages for AVX-512 (F, DQ, BW, VL).
#define SPARSE3D_ISA_SYMBOL isa_avx512
#define SPARSE3D_ISA_NAME "avx512"
#include "lanes_isa.h"
