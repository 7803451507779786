/* What memory there is: of the device, managed, page-locked. */
#include "fake_cuda.h"

#include <stdlib.h>
#include <string.h>

#define PAGE_BYTES 4096
#define GUARD_BYTES 64
#define GUARD 0xAB

struct range {
    char *start;
    size_t bytes;
    enum kind kind;
    bool freed;
    unsigned flags, generation;
    struct range *next;
};

static struct range *ranges;

static struct range *range_of(const void *address) {
    for (struct range *range = ranges; range; range = range->next)
        if ((const char *)address >= range->start && (const char *)address < range->start + range->bytes)
            return range;
    return NULL;
}

enum kind kind_of(const void *address) {
    struct range *range = range_of(address);
    return range && !range->freed ? range->kind : PAGEABLE;
}

bool reachable(const void *address, size_t bytes) {
    struct range *range = range_of(address);
    return !bytes || (range && !range->freed && bytes <= (size_t)(range->start + range->bytes - (const char *)address));
}

bool was_freed(const void *address) {
    struct range *range = range_of(address);
    return range && range->freed;
}

bool overrun(void) {
    char guard[GUARD_BYTES];
    memset(guard, GUARD, sizeof guard);
    for (struct range *range = ranges; range; range = range->next)
        if (range->kind != REGISTERED && (memcmp(range->start - GUARD_BYTES, guard, GUARD_BYTES) ||
                                          memcmp(range->start + range->bytes, guard, GUARD_BYTES)))
            return true;
    return false;
}

size_t live_bytes(enum kind kind) {
    size_t bytes = 0;
    for (struct range *range = ranges; range; range = range->next)
        if (range->kind == kind && !range->freed && range->generation == generation)
            bytes += range->bytes;
    return bytes;
}

unsigned live_ranges(enum kind kind) {
    unsigned count = 0;
    for (struct range *range = ranges; range; range = range->next)
        count += range->kind == kind && !range->freed && range->generation == generation;
    return count;
}

/* What was freed is kept until now, so that whoever still uses it finds poison and not another's memory. What was
 * registered may be anybody's by now. */
void reset_memory(void) {
    for (struct range **link = &ranges; *link;) {
        struct range *range = *link;
        if (!range->freed && range->kind != REGISTERED) {
            link = &range->next;
            continue;
        }
        *link = range->next;
        if (range->kind != REGISTERED)
            free(range->start - PAGE_BYTES);
        free(range);
    }
}

static void add_range(char *start, size_t bytes, enum kind kind, unsigned flags) {
    struct range *range = malloc(sizeof *range);
    *range = (struct range){start, bytes, kind, false, flags, generation, ranges};
    ranges = range;
}

/* NULL if there is no memory left, of the device or at all. */
static char *allocate(size_t bytes, enum kind kind, unsigned flags) {
    size_t used = live_bytes(DEVICE) + live_bytes(MANAGED);
    if (kind != PAGE_LOCKED && (used > total_bytes || bytes > total_bytes - used))
        return NULL;
    size_t whole = (bytes + GUARD_BYTES + PAGE_BYTES - 1) / PAGE_BYTES * PAGE_BYTES + PAGE_BYTES;
    char *block = aligned_alloc(PAGE_BYTES, whole);
    if (!block)
        return NULL;
    char *start = block + PAGE_BYTES;
    memset(start - GUARD_BYTES, GUARD, GUARD_BYTES);
    memset(start, POISON, bytes);
    memset(start + bytes, GUARD, GUARD_BYTES);
    add_range(start, bytes, kind, flags);
    return start;
}

static CUresult allocate_for(void **address, size_t bytes, enum kind kind, unsigned flags) {
    CUresult refused = unsafe_in_capture();
    REFUSE_UNLESS(!refused, refused);
    REFUSE_UNLESS(bytes, CUDA_ERROR_INVALID_VALUE);
    *address = allocate(bytes, kind, flags);
    return leave(*address ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY);
}

CUresult cuMemAlloc(CUdeviceptr *address, size_t bytes) {
    ENTER(CONTEXT);
    return allocate_for((void **)address, bytes, DEVICE, 0);
}

CUresult cuMemAllocPitch(CUdeviceptr *address, size_t *pitch, size_t width_bytes, size_t height, unsigned element) {
    ENTER(CONTEXT);
    REFUSE_UNLESS(element == 4 || element == 8 || element == 16, CUDA_ERROR_INVALID_VALUE);
    *pitch = (width_bytes + 511) / 512 * 512;
    return allocate_for((void **)address, *pitch * height, DEVICE, 0);
}

CUresult cuMemAllocManaged(CUdeviceptr *address, size_t bytes, unsigned flags) {
    ENTER(CONTEXT);
    REFUSE_UNLESS(attribute(CU_DEVICE_ATTRIBUTE_MANAGED_MEMORY), CUDA_ERROR_NOT_SUPPORTED);
    return allocate_for((void **)address, bytes, MANAGED, flags);
}

CUresult cuMemHostAlloc(void **address, size_t bytes, unsigned flags) {
    ENTER(CONTEXT);
    return allocate_for(address, bytes, PAGE_LOCKED, flags);
}

/* Gone even where a lost context makes the driver complain, so that a test sees who has tidied up. Work that still uses
 * the memory is not waited for: the driver's manual does not promise that. */
static CUresult free_range(void *address, bool is_host) {
    if (!address)
        return leave(CUDA_SUCCESS);
    struct range *range = range_of(address);
    bool found = range && range->start == address && !range->freed && range->kind != REGISTERED &&
                 is_host == (range->kind == PAGE_LOCKED);
    REFUSE_UNLESS(found, CUDA_ERROR_INVALID_VALUE);
    memset(range->start, POISON, range->bytes);
    range->freed = true;
    return leave(primary.lost);
}

CUresult cuMemFree(CUdeviceptr address) {
    ENTER(ANY_CONTEXT);
    return free_range((void *)address, false);
}

CUresult cuMemFreeHost(void *address) {
    ENTER(ANY_CONTEXT);
    return free_range(address, true);
}

CUresult cuMemHostRegister(void *address, size_t bytes, unsigned flags) {
    ENTER(CONTEXT);
    REFUSE_UNLESS(attribute(CU_DEVICE_ATTRIBUTE_HOST_REGISTER_SUPPORTED), CUDA_ERROR_NOT_SUPPORTED);
    REFUSE_UNLESS(address && bytes, CUDA_ERROR_INVALID_VALUE);
    char *start = address;
    for (struct range *range = ranges; range; range = range->next)
        REFUSE_UNLESS(range->freed || start >= range->start + range->bytes || range->start >= start + bytes,
                      CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED);
    add_range(start, bytes, REGISTERED, flags);
    return leave(CUDA_SUCCESS);
}

CUresult cuMemHostUnregister(void *address) {
    ENTER(ANY_CONTEXT);
    for (struct range **link = &ranges; *link; link = &(*link)->next) {
        struct range *range = *link;
        if (range->start == address && range->kind == REGISTERED) {
            *link = range->next;
            free(range);
            return leave(primary.lost);
        }
    }
    return leave(CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED);
}

CUresult cuMemHostGetDevicePointer(CUdeviceptr *device, void *host, unsigned flags) {
    ENTER(CONTEXT);
    enum kind kind = kind_of(host);
    REFUSE_UNLESS(!flags && (kind == PAGE_LOCKED || kind == REGISTERED), CUDA_ERROR_INVALID_VALUE);
    *device = (CUdeviceptr)host;
    return leave(CUDA_SUCCESS);
}

CUresult cuMemHostGetFlags(unsigned *flags, void *host) {
    ENTER(CONTEXT);
    struct range *range = range_of(host);
    REFUSE_UNLESS(range && range->kind >= PAGE_LOCKED, CUDA_ERROR_INVALID_VALUE);
    *flags = range->flags;
    return leave(CUDA_SUCCESS);
}

CUresult cuMemGetAddressRange(CUdeviceptr *base, size_t *bytes, CUdeviceptr address) {
    ENTER(CONTEXT);
    struct range *range = range_of((void *)address);
    REFUSE_UNLESS(range && !range->freed, CUDA_ERROR_NOT_FOUND);
    if (base)
        *base = (CUdeviceptr)range->start;
    if (bytes)
        *bytes = range->bytes;
    return leave(CUDA_SUCCESS);
}

CUresult cuMemGetInfo(size_t *unused, size_t *total) {
    ENTER(CONTEXT);
    size_t used = live_bytes(DEVICE) + live_bytes(MANAGED);
    *unused = used < total_bytes ? total_bytes - used : 0;
    *total = total_bytes;
    return leave(CUDA_SUCCESS);
}
