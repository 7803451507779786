/* What every function of the driver begins and ends with, and the faults that a test may ask for. */
#include "fake_cuda.h"

#include <stdio.h>
#include <string.h>

#define MAX_FAULTS 64
#define MAX_FUNCTIONS 256

struct fault {
    char name[64];
    int code;
    unsigned after, every;
    bool is_set;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t change = PTHREAD_COND_INITIALIZER;
static struct fault faults[MAX_FAULTS];
static struct {
    const char *function;
    unsigned count;
} calls[MAX_FUNCTIONS];
static int kernel_fault_after = -1;
static CUresult kernel_fault;
_Thread_local bool in_callback;
unsigned generation;

void take_lock(void) { pthread_mutex_lock(&lock); }
void release_lock(void) { pthread_mutex_unlock(&lock); }
void wait_for_change(void) { pthread_cond_wait(&change, &lock); }
void tell_of_change(void) { pthread_cond_broadcast(&change); }

/* cuMemAlloc is exported as cuMemAlloc_v2; a test need not know. */
static bool is_called(const char *function, const char *name) {
    size_t length = strlen(name);
    const char *rest = function + length;
    return !strncmp(function, name, length) && (!*rest || (!strncmp(rest, "_v", 2) && strlen(rest) == 3));
}

static void count_call(const char *function) {
    for (unsigned i = 0; i < MAX_FUNCTIONS; i++) {
        if (!calls[i].function)
            calls[i].function = function;
        if (!strcmp(calls[i].function, function)) {
            calls[i].count++;
            return;
        }
    }
}

static int injected(const char *function) {
    int code = PROCEED;
    for (struct fault *fault = faults; fault < faults + MAX_FAULTS; fault++) {
        if (!fault->is_set || !is_called(function, fault->name))
            continue;
        if (fault->after) {
            fault->after--;
            continue;
        }
        code = fault->code;
        fault->is_set = fault->every > 0;
        fault->after = fault->every ? fault->every - 1 : 0;
    }
    return code;
}

int enter(const char *function, enum needs needs) {
    take_lock();
    count_call(function);
    int code = injected(function);
    if (code == PROCEED && in_callback && needs > NOTHING)
        code = CUDA_ERROR_NOT_PERMITTED;
    if (code == PROCEED && needs >= INIT && !initialised)
        code = CUDA_ERROR_NOT_INITIALIZED;
    if (code == PROCEED && needs >= CONTEXT && context_state() != CUDA_SUCCESS)
        code = (int)context_state();
    if (code == PROCEED && needs == CONTEXT && primary.lost)
        code = (int)primary.lost;
    if (code != PROCEED)
        release_lock();
    return code;
}

CUresult leave(CUresult code) {
    release_lock();
    return code;
}

CUresult next_kernel_fault(void) {
    if (kernel_fault_after < 0)
        return CUDA_SUCCESS;
    return kernel_fault_after-- == 0 ? kernel_fault : CUDA_SUCCESS;
}

int fake_fail_next(const char *name, int code, unsigned after, unsigned every) {
    static const char *const versions[] = {"", "_v2", "_v3", "_v4"};
    char exported[80];
    bool exists = false;
    for (unsigned i = 0; i < 4; i++) {
        snprintf(exported, sizeof exported, "%s%s", name, versions[i]);
        exists |= !strncmp(name, "cu", 2) && own_function(exported);
    }
    if (!exists || strlen(name) >= sizeof faults->name)
        return -1;
    take_lock();
    int set = -1;
    for (struct fault *fault = faults; set && fault < faults + MAX_FAULTS; fault++) {
        if (fault->is_set)
            continue;
        *fault = (struct fault){.code = code, .after = after, .every = every, .is_set = true};
        strcpy(fault->name, name);
        set = 0;
    }
    release_lock();
    return set;
}

void fake_fault_kernel(unsigned after, int code) {
    take_lock();
    kernel_fault_after = (int)after;
    kernel_fault = (CUresult)code;
    release_lock();
}

unsigned fake_faults_left(void) {
    take_lock();
    unsigned left = kernel_fault_after >= 0;
    for (unsigned i = 0; i < MAX_FAULTS; i++)
        left += faults[i].is_set && !faults[i].every;
    release_lock();
    return left;
}

unsigned fake_calls(const char *name) {
    take_lock();
    unsigned count = 0;
    for (unsigned i = 0; i < MAX_FUNCTIONS && calls[i].function; i++)
        if (is_called(calls[i].function, name))
            count += calls[i].count;
    release_lock();
    return count;
}

void fake_live(struct live *live) {
    take_lock();
    *live = (struct live){
        .device_bytes = live_bytes(DEVICE) + live_bytes(MANAGED),
        .device = live_ranges(DEVICE),
        .managed = live_ranges(MANAGED),
        .page_locked = live_ranges(PAGE_LOCKED),
        .registered = live_ranges(REGISTERED),
        .streams = live_streams(),
        .events = live_events(),
        .graphs = live_graphs(),
        .modules = live_modules(),
    };
    release_lock();
}

unsigned fake_pending(void) {
    take_lock();
    unsigned count = pending();
    release_lock();
    return count;
}

void fake_reset(void) {
    take_lock();
    memset(faults, 0, sizeof faults);
    memset(calls, 0, sizeof calls);
    kernel_fault_after = -1;
    generation++;
    drop_work();
    reset_memory();
    reset_device();
    release_lock();
}
