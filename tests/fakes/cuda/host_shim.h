// CUDA C++ as a host compiler needs to see it: a block's threads run as fibres, one at a time, block after block.
//
// A fibre runs until the block's next barrier, so every order of threads between barriers is a legal one; a kernel whose
// result depends on it lacks a barrier. `host_thread_order` chooses: 0 ascending, 1 descending, anything else the seed of
// an order shuffled anew at every barrier. Shared memory is filled with 0xFF before each block.
#pragma once

// Its check of longjmp does not know fibres.
#undef _FORTIFY_SOURCE

#include <setjmp.h>
#include <ucontext.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <mutex>
#include <numeric>
#include <random>
#include <utility>
#include <vector>

#define __global__
#define __device__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __shared__ static __attribute__((section("block_shared")))
#define __syncthreads() host::barrier()

using std::abs;
using std::max;
using std::min;

struct Index {
    unsigned x, y, z;
};
static Index blockIdx, threadIdx, blockDim, gridDim;

extern "C" __attribute__((weak, visibility("hidden"))) char __start_block_shared[], __stop_block_shared[];

template <class T>
static inline T __ldg(const T *address) { return *address; }
static inline unsigned __funnelshift_r(unsigned low, unsigned high, unsigned shift) {
    return static_cast<unsigned>((static_cast<uint64_t>(high) << 32 | low) >> (shift & 31));
}
static inline unsigned __byte_perm(unsigned low, unsigned high, unsigned selector) {
    const uint64_t bytes = static_cast<uint64_t>(high) << 32 | low;
    unsigned result = 0;
    for (int i = 0; i < 4; ++i) {
        const unsigned byte = static_cast<unsigned>(bytes >> 8 * (selector >> 4 * i & 7)) & 0xFF;
        result |= (selector >> 4 * i & 8 ? (byte & 0x80 ? 0xFFu : 0u) : byte) << 8 * i;
    }
    return result;
}
static inline float __fdividef(float dividend, float divisor) { return dividend / divisor; }
static inline unsigned __float_as_uint(float value) {
    unsigned bits;
    std::memcpy(&bits, &value, sizeof bits);
    return bits;
}
template <class T>
static inline T atomicAdd(T *address, T value) { return std::exchange(*address, *address + value); }
template <class T>
static inline T atomicMax(T *address, T value) { return std::exchange(*address, std::max(*address, value)); }

namespace host {

constexpr size_t STACK_BYTES = 64 << 10;

struct Fibre {
    ucontext_t first;
    jmp_buf state;
    std::unique_ptr<char[]> stack{new char[STACK_BYTES]};
    bool has_begun, has_ended;
};

static std::mutex one_launch;
static std::vector<Fibre> fibres;
static jmp_buf scheduler;
static size_t running;
static unsigned order_seed;
static void (*body)(const void *);
static const void *arguments;

// After its first entry a fibre is left and entered with _setjmp and _longjmp: unlike swapcontext, they make no system call.
__attribute__((noinline)) static void barrier() {
    if (_setjmp(fibres[running].state) == 0) _longjmp(scheduler, 1);
}

static void enter_body() {
    for (;;) {
        body(arguments);
        fibres[running].has_ended = true;
        barrier();
    }
}

__attribute__((noinline)) static void resume(size_t thread) {
    running = thread;
    threadIdx = {static_cast<unsigned>(thread) % blockDim.x, static_cast<unsigned>(thread) / blockDim.x % blockDim.y,
                 static_cast<unsigned>(thread) / (blockDim.x * blockDim.y)};
    Fibre &fibre = fibres[thread];
    if (_setjmp(scheduler) != 0) return;
    if (fibre.has_begun) _longjmp(fibre.state, 1);
    fibre.has_begun = true;
    setcontext(&fibre.first);
}

static void run_block(std::vector<size_t> &order, std::minstd_rand &random) {
    std::memset(__start_block_shared, 0xFF, static_cast<size_t>(__stop_block_shared - __start_block_shared));
    for (Fibre &fibre : fibres) fibre.has_ended = false;
    for (bool is_running = true; is_running;) {
        if (order_seed > 1) std::shuffle(order.begin(), order.end(), random);
        is_running = false;
        for (const size_t thread : order) {
            if (fibres[thread].has_ended) continue;
            resume(thread);
            is_running |= !fibres[thread].has_ended;
        }
    }
}

static void launch(void (*kernel)(const void *), const void *args, const unsigned grid[3], const unsigned block[3]) {
    const std::lock_guard<std::mutex> guard(one_launch);
    body = kernel;
    arguments = args;
    gridDim = {grid[0], grid[1], grid[2]};
    blockDim = {block[0], block[1], block[2]};
    fibres = std::vector<Fibre>(size_t{block[0]} * block[1] * block[2]);
    for (Fibre &fibre : fibres) {
        fibre.has_begun = false;
        getcontext(&fibre.first);
        fibre.first.uc_stack.ss_sp = fibre.stack.get();
        fibre.first.uc_stack.ss_size = STACK_BYTES;
        makecontext(&fibre.first, enter_body, 0);
    }
    std::vector<size_t> order(fibres.size());
    std::iota(order.begin(), order.end(), size_t{0});
    if (order_seed == 1) std::reverse(order.begin(), order.end());
    std::minstd_rand random(order_seed);
    for (unsigned z = 0; z < grid[2]; ++z) {
        for (unsigned y = 0; y < grid[1]; ++y) {
            for (unsigned x = 0; x < grid[0]; ++x) {
                blockIdx = {x, y, z};
                run_block(order, random);
            }
        }
    }
    fibres.clear();
}

}  // namespace host

extern "C" void host_thread_order(unsigned order) { host::order_seed = order; }

// Exports host_NAME, which runs a kernel that takes one structure by value, and the structure's size.
#define HOST_KERNEL(NAME, ARGS)                                                                                       \
    extern "C" unsigned host_##NAME##_args_bytes() { return sizeof(ARGS); }                                            \
    extern "C" void host_##NAME(const void *args, const unsigned int grid[3], const unsigned int block[3]) {           \
        host::launch([](const void *its) { NAME(*static_cast<const ARGS *>(its)); }, args, grid, block);               \
    }
