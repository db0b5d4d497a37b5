// Memory aligned to cache lines that is not cleared first.
#pragma once

#include <cstddef>

namespace sparse3d {

// For sanitizers (tests/sanitize.py): memory of the very size that was asked for, never used again, and full of NaN.
#ifdef SPARSE3D_EXACT_MEMORY
constexpr bool kExactMemory = true;
#else
constexpr bool kExactMemory = false;
#endif

// `bytes` or more of memory; sets `bytes` to how much. Large blocks that were given back are used again, since a training
// loop asks for the same ones in every step, and fresh pages from the system would cost a fifth of its time (300k Gaussians
// at 1008x756: 212 ms against 165). At most 1 GiB of unused blocks is kept. Throws std::bad_alloc.
void* take_block(size_t& bytes);
void give_back_block(void* block, size_t bytes) noexcept;

template <class T>
class Buffer {
   public:
    Buffer() = default;
    explicit Buffer(size_t size) { resize(size); }
    Buffer(Buffer&& other) noexcept : data_(other.data_), bytes_(other.bytes_) {
        other.data_ = nullptr;
        other.bytes_ = 0;
    }
    Buffer& operator=(Buffer&& other) noexcept {
        T* const data = data_;
        const size_t bytes = bytes_;
        data_ = other.data_;
        bytes_ = other.bytes_;
        other.data_ = data;
        other.bytes_ = bytes;
        return *this;
    }
    ~Buffer() { release(); }

    // Old contents are lost; memory is kept when it is enough.
    void resize(size_t size) {
        size_t bytes = size * sizeof(T);
        if (kExactMemory ? bytes == bytes_ : bytes <= bytes_) return;
        release();
        data_ = static_cast<T*>(take_block(bytes));
        bytes_ = bytes;
    }

    T* data() { return data_; }
    const T* data() const { return data_; }
    T& operator[](size_t i) { return data_[i]; }
    const T& operator[](size_t i) const { return data_[i]; }

   private:
    void release() {
        if (data_ != nullptr) give_back_block(data_, bytes_);
        data_ = nullptr;
        bytes_ = 0;
    }

    T* data_ = nullptr;
    size_t bytes_ = 0;
};

}  // namespace sparse3d
