#include "buffer.h"

#include <mutex>
#include <new>

namespace sparse3d {

namespace {

constexpr size_t kSmallest = size_t{1} << 16;  // below, malloc does as well
constexpr size_t kMostKept = size_t{1} << 30;
constexpr int kMostBlocks = 32;
constexpr std::align_val_t kAlignment{64};

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
    return ::operator new(bytes, kAlignment);
}

void give_back_block(void* memory, size_t bytes) noexcept {
    if (bytes >= kSmallest && bytes <= kMostKept / 2) {
        Kept& store = kept();
        std::unique_lock<std::mutex> lock(store.mutex, std::try_to_lock);
        if (lock.owns_lock()) {
            while (store.count == kMostBlocks || (store.count > 0 && store.bytes + bytes > kMostKept))
                ::operator delete(store.remove(0).memory, kAlignment);
            store.blocks[store.count++] = {memory, bytes};
            store.bytes += bytes;
            return;
        }
    }
    ::operator delete(memory, kAlignment);
}

}  // namespace sparse3d
