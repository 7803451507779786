/* Copies and fills. */
#include "fake_cuda.h"

#include <stdlib.h>
#include <string.h>

static size_t extent(size_t pitch, size_t width_bytes, size_t rows) {
    return rows && width_bytes ? (rows - 1) * pitch + width_bytes : 0;
}

enum side { ON_HOST, ON_DEVICE };

struct transfer {
    struct copy copy;
    enum side from, to;
};

/* The driver reads pageable memory during the call, page-locked memory when the copy runs; and the call does not return
 * before pageable memory is written. */
static CUresult transfer(CUstream handle, struct transfer transfer, bool synchronous) {
    struct copy copy = transfer.copy;
    CUstream stream = find_stream(handle);
    REFUSE_UNLESS(stream, CUDA_ERROR_INVALID_HANDLE);
    size_t bytes = copy.width_bytes * copy.rows;
    size_t read = extent(copy.source_pitch, copy.width_bytes, copy.rows);
    size_t written = extent(copy.target_pitch, copy.width_bytes, copy.rows);
    bool valid = (transfer.from == ON_HOST || reachable(copy.source, read)) &&
                 (transfer.to == ON_HOST || reachable(copy.target, written));
    REFUSE_UNLESS(valid, CUDA_ERROR_INVALID_VALUE);
    CUresult refused = synchronous ? unsafe_in_capture() : CUDA_SUCCESS;
    REFUSE_UNLESS(!refused, refused);
    if (!bytes)
        return leave(CUDA_SUCCESS);
    struct work work = {.kind = COPY, .copy = copy};
    bool captured = stream->capture != NULL;
    if (!captured && kind_of(copy.source) == PAGEABLE && !was_freed(copy.source)) {
        char *snapshot = work.payload = malloc(bytes);
        for (size_t row = 0; row < copy.rows; row++)
            memcpy(snapshot + row * copy.width_bytes, copy.source + row * copy.source_pitch, copy.width_bytes);
    }
    CUresult code = submit(stream, work);
    if (!code && !captured && (synchronous || kind_of(copy.target) == PAGEABLE))
        code = run_until(stream, stream->queued, true);
    return leave(code);
}

static struct transfer flat(CUdeviceptr target, CUdeviceptr source, size_t bytes, enum side from, enum side to) {
    return (struct transfer){{(char *)target, (const char *)source, bytes, bytes, bytes, 1}, from, to};
}

/* With unified addressing any address says itself where it is. */
static enum side side_of(CUdeviceptr address) {
    void *pointer = (void *)address;
    return kind_of(pointer) == PAGEABLE && !was_freed(pointer) ? ON_HOST : ON_DEVICE;
}

CUresult cuMemcpyHtoD(CUdeviceptr target, const void *source, size_t bytes) {
    ENTER(CONTEXT);
    return transfer(NULL, flat(target, (CUdeviceptr)source, bytes, ON_HOST, ON_DEVICE), true);
}

CUresult cuMemcpyDtoH(void *target, CUdeviceptr source, size_t bytes) {
    ENTER(CONTEXT);
    return transfer(NULL, flat((CUdeviceptr)target, source, bytes, ON_DEVICE, ON_HOST), true);
}

CUresult cuMemcpyDtoD(CUdeviceptr target, CUdeviceptr source, size_t bytes) {
    ENTER(CONTEXT);
    return transfer(NULL, flat(target, source, bytes, ON_DEVICE, ON_DEVICE), true);
}

CUresult cuMemcpy(CUdeviceptr target, CUdeviceptr source, size_t bytes) {
    ENTER(CONTEXT);
    return transfer(NULL, flat(target, source, bytes, side_of(source), side_of(target)), true);
}

CUresult cuMemcpyHtoDAsync(CUdeviceptr target, const void *source, size_t bytes, CUstream stream) {
    ENTER(CONTEXT);
    return transfer(stream, flat(target, (CUdeviceptr)source, bytes, ON_HOST, ON_DEVICE), false);
}

CUresult cuMemcpyDtoHAsync(void *target, CUdeviceptr source, size_t bytes, CUstream stream) {
    ENTER(CONTEXT);
    return transfer(stream, flat((CUdeviceptr)target, source, bytes, ON_DEVICE, ON_HOST), false);
}

CUresult cuMemcpyDtoDAsync(CUdeviceptr target, CUdeviceptr source, size_t bytes, CUstream stream) {
    ENTER(CONTEXT);
    return transfer(stream, flat(target, source, bytes, ON_DEVICE, ON_DEVICE), false);
}

CUresult cuMemcpyAsync(CUdeviceptr target, CUdeviceptr source, size_t bytes, CUstream stream) {
    ENTER(CONTEXT);
    return transfer(stream, flat(target, source, bytes, side_of(source), side_of(target)), false);
}

static const char *base(CUmemorytype type, const void *host, CUdeviceptr device) {
    return type == CU_MEMORYTYPE_HOST ? host : (const char *)device;
}

static CUresult transfer_2d(CUstream stream, const CUDA_MEMCPY2D *copy, bool synchronous) {
    bool supported = copy->srcMemoryType != CU_MEMORYTYPE_ARRAY && copy->dstMemoryType != CU_MEMORYTYPE_ARRAY;
    REFUSE_UNLESS(supported, CUDA_ERROR_NOT_SUPPORTED);
    REFUSE_UNLESS(copy->Height < 2 || (copy->WidthInBytes <= copy->srcPitch && copy->WidthInBytes <= copy->dstPitch),
                  CUDA_ERROR_INVALID_VALUE);
    const char *source = base(copy->srcMemoryType, copy->srcHost, copy->srcDevice);
    const char *target = base(copy->dstMemoryType, copy->dstHost, copy->dstDevice);
    struct copy moved = {
        .target = (char *)(uintptr_t)target + copy->dstY * copy->dstPitch + copy->dstXInBytes,
        .source = source + copy->srcY * copy->srcPitch + copy->srcXInBytes,
        .target_pitch = copy->dstPitch,
        .source_pitch = copy->srcPitch,
        .width_bytes = copy->WidthInBytes,
        .rows = copy->Height,
    };
    enum side from = copy->srcMemoryType == CU_MEMORYTYPE_HOST ? ON_HOST : ON_DEVICE;
    enum side to = copy->dstMemoryType == CU_MEMORYTYPE_HOST ? ON_HOST : ON_DEVICE;
    return transfer(stream, (struct transfer){moved, from, to}, synchronous);
}

CUresult cuMemcpy2D(const CUDA_MEMCPY2D *copy) {
    ENTER(CONTEXT);
    return transfer_2d(NULL, copy, true);
}

CUresult cuMemcpy2DUnaligned(const CUDA_MEMCPY2D *copy) {
    ENTER(CONTEXT);
    return transfer_2d(NULL, copy, true);
}

CUresult cuMemcpy2DAsync(const CUDA_MEMCPY2D *copy, CUstream stream) {
    ENTER(CONTEXT);
    return transfer_2d(stream, copy, false);
}

/* Never waited for: neither does the driver wait for the filling of device memory. */
static CUresult fill(CUstream handle, CUdeviceptr target, size_t pitch, unsigned value, unsigned element_bytes,
                     size_t width, size_t rows) {
    CUstream stream = find_stream(handle);
    REFUSE_UNLESS(stream, CUDA_ERROR_INVALID_HANDLE);
    struct fill filled = {(char *)target, pitch, width, rows, value, element_bytes};
    bool valid = target % element_bytes == 0 && reachable(filled.target, extent(pitch, width * element_bytes, rows));
    REFUSE_UNLESS(valid, CUDA_ERROR_INVALID_VALUE);
    return leave(submit(stream, (struct work){.kind = FILL, .fill = filled}));
}

#define FILLS(bits, type)                                                                                         \
    CUresult cuMemsetD##bits(CUdeviceptr target, type value, size_t count) {                                      \
        ENTER(CONTEXT);                                                                                           \
        return fill(NULL, target, 0, value, bits / 8, count, 1);                                                  \
    }                                                                                                             \
    CUresult cuMemsetD##bits##Async(CUdeviceptr target, type value, size_t count, CUstream stream) {              \
        ENTER(CONTEXT);                                                                                           \
        return fill(stream, target, 0, value, bits / 8, count, 1);                                                \
    }                                                                                                             \
    CUresult cuMemsetD2D##bits(CUdeviceptr target, size_t pitch, type value, size_t width, size_t rows) {         \
        ENTER(CONTEXT);                                                                                           \
        return fill(NULL, target, pitch, value, bits / 8, width, rows);                                           \
    }                                                                                                             \
    CUresult cuMemsetD2D##bits##Async(CUdeviceptr target, size_t pitch, type value, size_t width, size_t rows,    \
                                      CUstream stream) {                                                          \
        ENTER(CONTEXT);                                                                                           \
        return fill(stream, target, pitch, value, bits / 8, width, rows);                                         \
    }

FILLS(8, unsigned char)
FILLS(16, unsigned short)
FILLS(32, unsigned int)
