// Memory for one cache line's alignment that is not cleared first.
#pragma once

#include <cstddef>
#include <memory>
#include <new>

namespace sparse3d {

template <class T>
class Buffer {
   public:
    Buffer() = default;
    explicit Buffer(size_t size) { resize(size); }

    // Old contents are lost; memory is kept when it is enough.
    void resize(size_t size) {
        if (size > capacity_) {
            data_.reset();
            capacity_ = 0;
            data_.reset(static_cast<T*>(::operator new(size * sizeof(T), std::align_val_t{64})));
            capacity_ = size;
        }
    }

    T* data() { return data_.get(); }
    const T* data() const { return data_.get(); }
    T& operator[](size_t i) { return data_.get()[i]; }
    const T& operator[](size_t i) const { return data_.get()[i]; }

   private:
    struct Release {
        void operator()(T* p) const { ::operator delete(p, std::align_val_t{64}); }
    };
    std::unique_ptr<T, Release> data_;
    size_t capacity_ = 0;
};

}  // namespace sparse3d
