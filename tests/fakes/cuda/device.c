/* The device, its primary context, the names of errors, the table of functions. */
#define _GNU_SOURCE
#include "fake_cuda.h"

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

#define MAX_ATTRIBUTES 256
#define MAX_DEPTH 4096

struct CUctx_st primary;
bool initialised;
size_t total_bytes;
static int attributes[MAX_ATTRIBUTES], driver_version, device_count;
static char device_name[128];
static _Thread_local struct {
    CUcontext stack[MAX_DEPTH];
    unsigned depth;
} current;

__attribute__((constructor)) void reset_device(void) {
    static const int defaults[][2] = {
        {CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK, 1024},
        {CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_X, 1024},
        {CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Y, 1024},
        {CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Z, 64},
        {CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_X, 0x7fffffff},
        {CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Y, 65535},
        {CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Z, 65535},
        {CU_DEVICE_ATTRIBUTE_WARP_SIZE, 32},
        {CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT, 16},
        {CU_DEVICE_ATTRIBUTE_CLOCK_RATE, 1000000},
        {CU_DEVICE_ATTRIBUTE_ASYNC_ENGINE_COUNT, 2},
        {CU_DEVICE_ATTRIBUTE_GPU_OVERLAP, 1},
        {CU_DEVICE_ATTRIBUTE_CONCURRENT_KERNELS, 1},
        {CU_DEVICE_ATTRIBUTE_UNIFIED_ADDRESSING, 1},
        {CU_DEVICE_ATTRIBUTE_CAN_MAP_HOST_MEMORY, 1},
        {CU_DEVICE_ATTRIBUTE_HOST_REGISTER_SUPPORTED, 1},
        {CU_DEVICE_ATTRIBUTE_CAN_USE_HOST_POINTER_FOR_REGISTERED_MEM, 1},
        {CU_DEVICE_ATTRIBUTE_MANAGED_MEMORY, 1},
        {CU_DEVICE_ATTRIBUTE_CONCURRENT_MANAGED_ACCESS, 1},
        {CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, 8},
        {CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR, 7},
    };
    memset(attributes, 0, sizeof attributes);
    for (unsigned i = 0; i < sizeof defaults / sizeof *defaults; i++)
        attributes[defaults[i][0]] = defaults[i][1];
    strcpy(device_name, "Stand-in GPU");
    total_bytes = (size_t)8 << 30;
    device_count = 1;
    driver_version = CUDA_VERSION;
    primary.lost = CUDA_SUCCESS;
}

void fake_set_device(const char *name, uint64_t total, int count, int version) {
    take_lock();
    if (name)
        snprintf(device_name, sizeof device_name, "%s", name);
    total_bytes = total ? total : total_bytes;
    device_count = count >= 0 ? count : device_count;
    driver_version = version ? version : driver_version;
    release_lock();
}

void fake_set_attribute(unsigned which, int value) {
    if (which < MAX_ATTRIBUTES)
        attributes[which] = value;
}

int attribute(CUdevice_attribute which) { return which < MAX_ATTRIBUTES ? attributes[which] : 0; }

CUresult context_state(void) {
    if (!current.depth || !current.stack[current.depth - 1])
        return CUDA_ERROR_INVALID_CONTEXT;
    return primary.retained ? CUDA_SUCCESS : CUDA_ERROR_CONTEXT_IS_DESTROYED;
}

CUresult cuInit(unsigned int flags) {
    ENTER(NOTHING);
    REFUSE_UNLESS(flags == 0, CUDA_ERROR_INVALID_VALUE);
    REFUSE_UNLESS(device_count > 0, CUDA_ERROR_NO_DEVICE);
    initialised = true;
    return leave(CUDA_SUCCESS);
}

CUresult cuDriverGetVersion(int *version) {
    ENTER(NOTHING);
    *version = driver_version;
    return leave(CUDA_SUCCESS);
}

CUresult cuDeviceGetCount(int *count) {
    ENTER(INIT);
    *count = device_count;
    return leave(CUDA_SUCCESS);
}

CUresult cuDeviceGet(CUdevice *device, int ordinal) {
    ENTER(INIT);
    REFUSE_UNLESS(ordinal >= 0 && ordinal < device_count, CUDA_ERROR_INVALID_DEVICE);
    *device = ordinal;
    return leave(CUDA_SUCCESS);
}

#define ENTER_DEVICE(device) \
    ENTER(INIT);             \
    REFUSE_UNLESS((device) >= 0 && (device) < device_count, CUDA_ERROR_INVALID_DEVICE)

CUresult cuDeviceGetName(char *name, int length, CUdevice device) {
    ENTER_DEVICE(device);
    snprintf(name, (size_t)length, "%s", device_name);
    return leave(CUDA_SUCCESS);
}

CUresult cuDeviceGetUuid(CUuuid *uuid, CUdevice device) {
    ENTER_DEVICE(device);
    memset(uuid, device + 1, sizeof *uuid);
    return leave(CUDA_SUCCESS);
}

CUresult cuDeviceGetPCIBusId(char *bus_id, int length, CUdevice device) {
    ENTER_DEVICE(device);
    snprintf(bus_id, (size_t)length, "0000:%02X:00.0", (unsigned)device + 1);
    return leave(CUDA_SUCCESS);
}

CUresult cuDeviceTotalMem(size_t *bytes, CUdevice device) {
    ENTER_DEVICE(device);
    *bytes = total_bytes;
    return leave(CUDA_SUCCESS);
}

CUresult cuDeviceComputeCapability(int *major, int *minor, CUdevice device) {
    ENTER_DEVICE(device);
    *major = attribute(CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR);
    *minor = attribute(CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR);
    return leave(CUDA_SUCCESS);
}

CUresult cuDeviceGetAttribute(int *value, CUdevice_attribute which, CUdevice device) {
    ENTER_DEVICE(device);
    REFUSE_UNLESS((unsigned)which < MAX_ATTRIBUTES, CUDA_ERROR_INVALID_VALUE);
    *value = attribute(which);
    return leave(CUDA_SUCCESS);
}

CUresult cuDevicePrimaryCtxRetain(CUcontext *context, CUdevice device) {
    ENTER_DEVICE(device);
    primary.retained++;
    *context = &primary;
    return leave(CUDA_SUCCESS);
}

CUresult cuDevicePrimaryCtxRelease(CUdevice device) {
    ENTER_DEVICE(device);
    REFUSE_UNLESS(primary.retained, CUDA_ERROR_INVALID_CONTEXT);
    if (--primary.retained == 0)
        drop_work();
    return leave(CUDA_SUCCESS);
}

CUresult cuDevicePrimaryCtxGetState(CUdevice device, unsigned int *flags, int *active) {
    ENTER_DEVICE(device);
    *flags = 0;
    *active = primary.retained > 0;
    return leave(CUDA_SUCCESS);
}

CUresult cuDevicePrimaryCtxSetFlags(CUdevice device, unsigned int flags) {
    (void)flags;
    ENTER_DEVICE(device);
    return leave(CUDA_SUCCESS);
}

CUresult cuCtxPushCurrent(CUcontext context) {
    ENTER(INIT);
    REFUSE_UNLESS(context == &primary && current.depth < MAX_DEPTH, CUDA_ERROR_INVALID_CONTEXT);
    current.stack[current.depth++] = context;
    return leave(CUDA_SUCCESS);
}

CUresult cuCtxPopCurrent(CUcontext *context) {
    ENTER(INIT);
    REFUSE_UNLESS(current.depth, CUDA_ERROR_INVALID_CONTEXT);
    CUcontext popped = current.stack[--current.depth];
    if (context)
        *context = popped;
    return leave(CUDA_SUCCESS);
}

CUresult cuCtxSetCurrent(CUcontext context) {
    ENTER(INIT);
    REFUSE_UNLESS(!context || context == &primary, CUDA_ERROR_INVALID_CONTEXT);
    if (!current.depth)
        current.depth = 1;
    current.stack[current.depth - 1] = context;
    return leave(CUDA_SUCCESS);
}

CUresult cuCtxGetCurrent(CUcontext *context) {
    ENTER(INIT);
    *context = current.depth ? current.stack[current.depth - 1] : NULL;
    return leave(CUDA_SUCCESS);
}

CUresult cuCtxGetDevice(CUdevice *device) {
    ENTER(CONTEXT);
    *device = 0;
    return leave(CUDA_SUCCESS);
}

CUresult cuCtxGetFlags(unsigned int *flags) {
    ENTER(CONTEXT);
    *flags = 0;
    return leave(CUDA_SUCCESS);
}

CUresult cuCtxGetApiVersion(CUcontext context, unsigned int *version) {
    (void)context;
    ENTER(INIT);
    *version = 3020;
    return leave(CUDA_SUCCESS);
}

#define ERRORS(each)                                                                                       \
    each(SUCCESS) each(ERROR_INVALID_VALUE) each(ERROR_OUT_OF_MEMORY) each(ERROR_NOT_INITIALIZED)          \
    each(ERROR_DEINITIALIZED) each(ERROR_STUB_LIBRARY) each(ERROR_NO_DEVICE) each(ERROR_INVALID_DEVICE)    \
    each(ERROR_INVALID_IMAGE) each(ERROR_INVALID_CONTEXT) each(ERROR_NO_BINARY_FOR_GPU)                    \
    each(ERROR_ECC_UNCORRECTABLE) each(ERROR_INVALID_PTX) each(ERROR_UNSUPPORTED_PTX_VERSION)              \
    each(ERROR_INVALID_SOURCE) each(ERROR_FILE_NOT_FOUND) each(ERROR_OPERATING_SYSTEM)                     \
    each(ERROR_INVALID_HANDLE) each(ERROR_ILLEGAL_STATE) each(ERROR_NOT_FOUND) each(ERROR_NOT_READY)       \
    each(ERROR_ILLEGAL_ADDRESS) each(ERROR_LAUNCH_OUT_OF_RESOURCES) each(ERROR_LAUNCH_TIMEOUT)             \
    each(ERROR_CONTEXT_IS_DESTROYED) each(ERROR_ASSERT) each(ERROR_HOST_MEMORY_ALREADY_REGISTERED)         \
    each(ERROR_HOST_MEMORY_NOT_REGISTERED) each(ERROR_MISALIGNED_ADDRESS) each(ERROR_LAUNCH_FAILED)        \
    each(ERROR_NOT_PERMITTED) each(ERROR_NOT_SUPPORTED) each(ERROR_SYSTEM_NOT_READY)                       \
    each(ERROR_SYSTEM_DRIVER_MISMATCH) each(ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE)                          \
    each(ERROR_STREAM_CAPTURE_UNSUPPORTED) each(ERROR_STREAM_CAPTURE_INVALIDATED)                          \
    each(ERROR_STREAM_CAPTURE_MERGE) each(ERROR_STREAM_CAPTURE_UNMATCHED)                                  \
    each(ERROR_STREAM_CAPTURE_UNJOINED) each(ERROR_STREAM_CAPTURE_ISOLATION)                               \
    each(ERROR_STREAM_CAPTURE_IMPLICIT) each(ERROR_CAPTURED_EVENT)                                         \
    each(ERROR_STREAM_CAPTURE_WRONG_THREAD) each(ERROR_UNKNOWN)

CUresult cuGetErrorName(CUresult error, const char **name) {
    switch (error) {
#define NAME(error_)             \
    case CUDA_##error_:          \
        *name = "CUDA_" #error_; \
        return CUDA_SUCCESS;
        ERRORS(NAME)
    default:
        *name = NULL;
        return CUDA_ERROR_INVALID_VALUE;
    }
}

CUresult cuGetErrorString(CUresult error, const char **text) { return cuGetErrorName(error, text); }

/* Another library of the process may have a function of the same name. */
void *own_function(const char *name) {
    Dl_info self;
    if (!dladdr(&primary, &self))
        return NULL;
    void *library = dlopen(self.dli_fname, RTLD_LAZY | RTLD_NOLOAD);
    void *function = library ? dlsym(library, name) : NULL;
    if (library)
        dlclose(library);
    return function;
}

CUresult cuGetProcAddress(const char *symbol, void **function, int version, cuuint64_t flags,
                          CUdriverProcAddressQueryResult *status) {
    static const char *const versions[] = {"_v4", "_v3", "_v2", ""};
    char exported[128];
    (void)version, (void)flags;
    *function = NULL;
    if (!strcmp(symbol, "cuGraphInstantiate"))
        symbol = "cuGraphInstantiateWithFlags";
    for (unsigned i = 0; i < 4 && !*function; i++) {
        snprintf(exported, sizeof exported, "%s%s", symbol, versions[i]);
        *function = own_function(exported);
    }
    if (status)
        *status = *function ? CU_GET_PROC_ADDRESS_SUCCESS : CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND;
    return *function ? CUDA_SUCCESS : CUDA_ERROR_NOT_FOUND;
}
