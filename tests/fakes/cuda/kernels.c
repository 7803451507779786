/* Modules, functions, launches. */
#define _GNU_SOURCE
#include "fake_cuda.h"

#include <dlfcn.h>
#include <elf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define MAX_ARGUMENT_BYTES 4096

typedef void (*kernel)(const void *arguments, const unsigned grid[3], const unsigned block[3]);

struct CUmod_st {
    void *library;
    int file;
    unsigned generation;
    struct CUmod_st *next;
};

struct CUfunc_st {
    CUmodule module;
    kernel run;
};

static CUmodule modules;

unsigned live_modules(void) {
    unsigned count = 0;
    for (CUmodule module = modules; module; module = module->next)
        count += module->generation == generation;
    return count;
}

/* An ELF file does not say how long it is; the table of its sections is at its end. */
static CUresult check_image(const Elf64_Ehdr *header, size_t *bytes) {
    if (memcmp(header->e_ident, ELFMAG, SELFMAG))
        return CUDA_ERROR_INVALID_IMAGE;
    if (header->e_type != ET_DYN || header->e_machine == EM_CUDA)
        return CUDA_ERROR_NO_BINARY_FOR_GPU;
    *bytes = header->e_shoff + (size_t)header->e_shnum * header->e_shentsize;
    return CUDA_SUCCESS;
}

static CUresult load(CUmodule *handle, const void *image) {
    size_t bytes;
    CUresult code = check_image(image, &bytes);
    REFUSE_UNLESS(!code, code);
    /* The file stays open: under the same number another would be taken for this one. */
    int file = memfd_create("kernels", MFD_CLOEXEC);
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", file);
    bool written = file >= 0 && write(file, image, bytes) == (ssize_t)bytes;
    void *library = written ? dlopen(path, RTLD_NOW | RTLD_LOCAL) : NULL;
    if (!library) {
        fprintf(stderr, "kernels do not load: %s\n", written ? dlerror() : "no file in memory");
        close(file);
        return leave(CUDA_ERROR_INVALID_IMAGE);
    }
    CUmodule module = malloc(sizeof *module);
    *module = (struct CUmod_st){library, file, generation, modules};
    modules = module;
    *handle = module;
    return leave(CUDA_SUCCESS);
}

CUresult cuModuleLoadData(CUmodule *module, const void *image) {
    ENTER(CONTEXT);
    return load(module, image);
}

CUresult cuModuleLoadDataEx(CUmodule *module, const void *image, unsigned count, CUjit_option *options, void **values) {
    ENTER(CONTEXT);
    /* The compiler's logs are empty texts. The driver says so in the values, which hold their sizes. */
    for (unsigned i = 0; i < count; i++) {
        if (options[i] == CU_JIT_INFO_LOG_BUFFER || options[i] == CU_JIT_ERROR_LOG_BUFFER)
            *(char *)values[i] = 0;
        else if (options[i] == CU_JIT_INFO_LOG_BUFFER_SIZE_BYTES || options[i] == CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES)
            values[i] = NULL;
    }
    return load(module, image);
}

/* The library stays loaded: work that was not waited for may still need it. */
CUresult cuModuleUnload(CUmodule handle) {
    ENTER(ANY_CONTEXT);
    for (CUmodule *link = &modules; *link; link = &(*link)->next) {
        if (*link == handle) {
            *link = handle->next;
            return leave(primary.lost);
        }
    }
    return leave(CUDA_ERROR_INVALID_HANDLE);
}

CUresult cuModuleGetFunction(CUfunction *handle, CUmodule module, const char *name) {
    ENTER(CONTEXT);
    char exported[256];
    snprintf(exported, sizeof exported, "host_%s", name);
    void *found = dlsym(module->library, exported);
    REFUSE_UNLESS(found, CUDA_ERROR_NOT_FOUND);
    CUfunction function = malloc(sizeof *function);
    function->module = module;
    memcpy(&function->run, &found, sizeof found);
    *handle = function;
    return leave(CUDA_SUCCESS);
}

CUresult cuFuncGetAttribute(int *value, CUfunction_attribute which, CUfunction function) {
    (void)function;
    ENTER(CONTEXT);
    *value = which == CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK ? 1024 : 0;
    return leave(CUDA_SUCCESS);
}

CUresult cuFuncSetCacheConfig(CUfunction function, CUfunc_cache config) {
    (void)function, (void)config;
    ENTER(CONTEXT);
    return leave(CUDA_SUCCESS);
}

/* PyCUDA sets these before each launch, which says them again. */
CUresult cuFuncSetBlockShape(CUfunction function, int x, int y, int z) {
    (void)function, (void)x, (void)y, (void)z;
    ENTER(CONTEXT);
    return leave(CUDA_SUCCESS);
}

CUresult cuFuncSetSharedSize(CUfunction function, unsigned bytes) {
    (void)function, (void)bytes;
    ENTER(CONTEXT);
    return leave(CUDA_SUCCESS);
}

/* Without a size, as much as can be read at all, and that is what the system tells: writing stops at a page that is
 * not there. */
static void *copy_unsized(const void *arguments) {
    char *copied = calloc(1, MAX_ARGUMENT_BYTES);
    int file = memfd_create("arguments", MFD_CLOEXEC);
    ssize_t bytes = write(file, arguments, MAX_ARGUMENT_BYTES);
    if (bytes <= 0 || pread(file, copied, (size_t)bytes, 0) != bytes) {
        free(copied);
        copied = NULL;
    }
    close(file);
    return copied;
}

static void *copy_sized(void **extra) {
    const void *arguments = NULL;
    size_t bytes = 0;
    for (; *extra != CU_LAUNCH_PARAM_END; extra += 2) {
        if (*extra == CU_LAUNCH_PARAM_BUFFER_POINTER)
            arguments = extra[1];
        if (*extra == CU_LAUNCH_PARAM_BUFFER_SIZE)
            bytes = *(size_t *)extra[1];
    }
    if (!arguments || bytes > MAX_ARGUMENT_BYTES)
        return NULL;
    void *copied = calloc(1, MAX_ARGUMENT_BYTES);
    return memcpy(copied, arguments, bytes);
}

static bool launchable(const unsigned grid[3], const unsigned block[3]) {
    static const CUdevice_attribute limits[2][3] = {
        {CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_X, CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Y, CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Z},
        {CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_X, CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Y, CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Z},
    };
    uint64_t threads = 1;
    for (unsigned axis = 0; axis < 3; axis++) {
        threads *= block[axis];
        if (!grid[axis] || grid[axis] > (unsigned)attribute(limits[0][axis]) || !block[axis] ||
            block[axis] > (unsigned)attribute(limits[1][axis]))
            return false;
    }
    return threads <= (uint64_t)attribute(CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK);
}

CUresult cuLaunchKernel(CUfunction function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x,
                        unsigned block_y, unsigned block_z, unsigned shared_bytes, CUstream handle, void **parameters,
                        void **extra) {
    (void)shared_bytes;
    ENTER(CONTEXT);
    CUstream stream = find_stream(handle);
    REFUSE_UNLESS(stream && function, CUDA_ERROR_INVALID_HANDLE);
    struct launch launch = {function, {grid_x, grid_y, grid_z}, {block_x, block_y, block_z}};
    REFUSE_UNLESS(launchable(launch.grid, launch.block), CUDA_ERROR_INVALID_VALUE);
    void *arguments = parameters ? copy_unsized(parameters[0]) : extra ? copy_sized(extra) : calloc(1, 1);
    REFUSE_UNLESS(arguments, CUDA_ERROR_INVALID_VALUE);
    return leave(submit(stream, (struct work){.kind = KERNEL, .payload = arguments, .launch = launch}));
}

void run_kernel(const struct launch *launch, const void *arguments) {
    launch->function->run(arguments, launch->grid, launch->block);
}
