#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <string>

#include "isa.h"

namespace sparse3d {

namespace {

struct Runnable {
    const Isa* isas[4] = {};
    const char* names[4] = {};
    int count = 0;

    void add(const Isa& isa) {
        isas[count] = &isa;
        names[count++] = isa.name;
    }

    Runnable() {
        add(isa_scalar);
#ifdef SPARSE3D_X86
        __builtin_cpu_init();
        const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
        const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
                            __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl");
        if (avx2) add(isa_avx2);
        if (avx2 && avx512) add(isa_avx512);
#endif
    }
};

const Runnable& runnable() {
    static const Runnable found;
    return found;
}

}  // namespace

const char* const* runnable_isas() { return runnable().names; }

const Isa& chosen_isa() {
    const Runnable& found = runnable();
    const char* wanted = std::getenv("SPARSE3D_ISA");
    if (wanted == nullptr || *wanted == '\0') return *found.isas[found.count - 1];
    std::string names;
    for (int i = 0; i < found.count; ++i) {
        if (std::strcmp(wanted, found.names[i]) == 0) return *found.isas[i];
        names += (i ? ", " : "") + std::string(found.names[i]);
    }
    throw std::invalid_argument("SPARSE3D_ISA is '" + std::string(wanted) + "', but this CPU runs: " + names +
                                ". Unset it, or set it to one of these");
}

}  // namespace sparse3d
