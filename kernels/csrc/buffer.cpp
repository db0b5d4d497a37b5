#include "buffer.h"

#include <sys/mman.h>

#include <cstdint>
#include <cstring>
#include <mutex>
#include <new>

namespace sparse3d {

namespace {

constexpr size_t kSmallest = kExactMemory ? SIZE_MAX : size_t{1} << 16;  // below, malloc does as well
constexpr size_t kMostKept = size_t{1} << 30;
constexpr int kMostBlocks = 64;
constexpr std::align_val_t kAlignment{64};

constexpr size_t kHugePage = size_t{2} << 20;

// Large blocks lie in huge pages where the system has them: a step touches tens of MiB in no order, and finding thousands of
// small pages costs more than reading what is on them.
void* new_block(size_t& bytes) {
    if (kExactMemory) return std::memset(::operator new(bytes, kAlignment), 0xff, bytes);
    if (bytes < kHugePage) return ::operator new(bytes, kAlignment);
    bytes = (bytes + kHugePage - 1) / kHugePage * kHugePage;
    void* const block = ::operator new(bytes, std::align_val_t{kHugePage});
#ifdef MADV_HUGEPAGE
    madvise(block, bytes, MADV_HUGEPAGE);  // a wish; what it answers changes nothing
#endif
    return block;
}

void delete_block(void* block, size_t bytes) noexcept {
    ::operator delete(block, kExactMemory || bytes < kHugePage ? kAlignment : std::align_val_t{kHugePage});
}

struct Block {
    void* memory;
    size_t bytes;
};

struct Kept {
    std::mutex mutex;
    Block blocks[kMostBlocks];  // the one given back last at the end
    int count = 0;
    size_t bytes = 0;

    Block remove(int k) {
        const Block block = blocks[k];
        for (--count; k < count; ++k) blocks[k] = blocks[k + 1];
        bytes -= block.bytes;
        return block;
    }
};

Kept& kept() {
    static Kept* const blocks = new Kept;  // never destroyed: contexts may outlive static objects
    return *blocks;
}

}  // namespace

// Both only try to lock: when another thread is in here, or was when the process forked, they go to the system instead.

void* take_block(size_t& bytes) {
    if (bytes >= kSmallest) {
        Kept& store = kept();
        std::unique_lock<std::mutex> lock(store.mutex, std::try_to_lock);
        int best = -1;  // the smallest that is enough, unless much too large
        for (int k = 0; lock.owns_lock() && k < store.count; ++k) {
            const size_t size = store.blocks[k].bytes;
            if (size >= bytes && size / 2 <= bytes && (best < 0 || size < store.blocks[best].bytes)) best = k;
        }
        if (best >= 0) {
            const Block block = store.remove(best);
            bytes = block.bytes;
            return block.memory;
        }
        bytes += bytes / 8;  // the next step may need a little more
    }
    return new_block(bytes);
}

void give_back_block(void* memory, size_t bytes) noexcept {
    if (bytes >= kSmallest && bytes <= kMostKept / 2) {
        Kept& store = kept();
        std::unique_lock<std::mutex> lock(store.mutex, std::try_to_lock);
        if (lock.owns_lock()) {
            while (store.count == kMostBlocks || (store.count > 0 && store.bytes + bytes > kMostKept)) {
                const Block oldest = store.remove(0);
                delete_block(oldest.memory, oldest.bytes);
            }
            store.blocks[store.count++] = {memory, bytes};
            store.bytes += bytes;
            return;
        }
    }
    delete_block(memory, bytes);
}

}  // namespace sparse3d
