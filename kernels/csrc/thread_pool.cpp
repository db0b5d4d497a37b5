#include "thread_pool.h"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <system_error>
#include <thread>

namespace sparse3d {

namespace {

using Work = std::function<void(int64_t, int64_t, int)>;

class ThreadPool {
   public:
    explicit ThreadPool(pid_t owner) : owner_(owner) {}

    pid_t owner() const { return owner_; }

    // False, with nothing done, when another caller is using the pool.
    bool run(int64_t count, int64_t chunk, int threads, const Work& work) {
        std::unique_lock<std::mutex> only_caller(caller_, std::try_to_lock);
        if (!only_caller.owns_lock()) return false;
        {
            std::lock_guard<std::mutex> lock(mutex_);
            threads = start(threads - 1) + 1;
            work_ = &work;
            count_ = count;
            chunk_ = chunk;
            next_ = 0;
            error_ = nullptr;
            helpers_ = threads - 1;
            running_ = threads - 1;
            ++generation_;
        }
        wake_.notify_all();
        take_chunks(work, 0);
        std::unique_lock<std::mutex> lock(mutex_);
        done_.wait(lock, [this] { return running_ == 0; });
        work_ = nullptr;
        if (error_) std::rethrow_exception(error_);
        return true;
    }

   private:
    // Sees to it that `helpers` threads run, or as many as the system lets it start; returns how many of them may be used.
    int start(int helpers) {
        try {
            for (; started_ < helpers; ++started_) std::thread([this, worker = started_ + 1] { serve(worker); }).detach();
        } catch (const std::system_error&) {  // a limit on threads or memory
        }
        return std::min(started_, helpers);
    }

    void serve(int worker) {
        uint64_t seen = 0;
        std::unique_lock<std::mutex> lock(mutex_);
        for (;;) {
            wake_.wait(lock, [&] { return generation_ != seen && work_ != nullptr && worker <= helpers_; });
            seen = generation_;
            const Work& work = *work_;
            lock.unlock();
            take_chunks(work, worker);
            lock.lock();
            if (--running_ == 0) done_.notify_one();
        }
    }

    void take_chunks(const Work& work, int worker) {
        try {
            for (;;) {
                const int64_t begin = next_.fetch_add(chunk_);
                if (begin >= count_) return;
                work(begin, std::min(begin + chunk_, count_), worker);
            }
        } catch (...) {
            next_ = count_;  // nobody starts another chunk
            std::lock_guard<std::mutex> lock(mutex_);
            if (!error_) error_ = std::current_exception();
        }
    }

    const pid_t owner_;
    std::mutex caller_;  // held while a caller uses the pool
    std::mutex mutex_;   // guards what follows
    std::condition_variable wake_, done_;
    uint64_t generation_ = 0;
    int started_ = 0, helpers_ = 0, running_ = 0;
    const Work* work_ = nullptr;
    int64_t count_ = 0, chunk_ = 1;
    std::atomic<int64_t> next_{0};
    std::exception_ptr error_;
};

// Never destroyed: its threads live as long as the process. A forked child has none of them and starts its own pool.
ThreadPool& pool() {
    static std::atomic<ThreadPool*> current{nullptr};
    const pid_t here = getpid();
    ThreadPool* found = current.load();
    while (found == nullptr || found->owner() != here) {
        ThreadPool* fresh = new ThreadPool(here);
        if (current.compare_exchange_strong(found, fresh)) return *fresh;
        delete fresh;
    }
    return *found;
}

}  // namespace

void parallel_for(int64_t count, int64_t chunk, int threads, const Work& work) {
    if (count <= 0) return;
    threads = static_cast<int>(std::min<int64_t>(threads, (count + chunk - 1) / chunk));
    if (threads > 1 && pool().run(count, chunk, threads, work)) return;
    for (int64_t begin = 0; begin < count; begin += chunk) work(begin, std::min(begin + chunk, count), 0);
}

}  // namespace sparse3d
