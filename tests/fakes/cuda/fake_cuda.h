/* A stand-in for NVIDIA's driver, libcuda.so.1, for tests on machines without a GPU: what its parts share.
 *
 * Device memory is host memory. Work runs as late as it may: nothing that was put into a stream runs before something
 * waits for it, and then only that and what it was ordered after. A wait that a program forgot thus always shows, as
 * memory still full of POISON. A kernel NAME is the function host_NAME of a library compiled for this machine.
 *
 * The functions of the driver are declared by NVIDIA's own header, so the compiler checks every prototype. */
#ifndef FAKE_CUDA_H
#define FAKE_CUDA_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#pragma GCC visibility push(default)
#include <cuda.h>

/* What a test may call */

struct live {
    uint64_t device_bytes;
    unsigned device, managed, page_locked, registered, streams, events, graphs, modules;
};

/* The call of `name` that comes after `after` others, and from then on each `every`-th (0: no other), returns `code`
 * and does nothing. Returns -1 if there is no such function. */
int fake_fail_next(const char *name, int code, unsigned after, unsigned every);
/* The kernel that runs after `after` others does not run but ends the context with `code`. */
void fake_fault_kernel(unsigned after, int code);
/* Faults that were asked for and have not come up. */
unsigned fake_faults_left(void);
/* Since the last reset. */
unsigned fake_calls(const char *name);
/* What was made since the last reset and is still there. */
void fake_live(struct live *live);
/* Pieces of work that nothing has asked for yet. */
unsigned fake_pending(void);
/* A name that is NULL, a version and a total that are 0, a count that is negative leave things as they are. */
void fake_set_device(const char *name, uint64_t total, int count, int version);
void fake_set_attribute(unsigned which, int value);
/* As after loading, but for what the process still holds, which stays usable and no longer counts. */
void fake_reset(void);

#pragma GCC visibility pop

#define POISON 0xCD
#define MAX_NODES 256

/* faults.c: the beginning and the end of every function of the driver */

enum needs { NOTHING, INIT, CONTEXT, /* also once the context is lost */ ANY_CONTEXT };
enum { PROCEED = -1 };

/* Counts the call, takes the lock. Anything but PROCEED is to be returned at once, the lock is not held then. */
int enter(const char *function, enum needs needs);
CUresult leave(CUresult code);

#define ENTER(needs)                               \
    do {                                           \
        int code_ = enter(__func__, needs);        \
        if (code_ != PROCEED)                      \
            return (CUresult)code_;                \
    } while (0)
#define REFUSE_UNLESS(condition, code) \
    do {                               \
        if (!(condition))              \
            return leave(code);        \
    } while (0)

void release_lock(void);
void take_lock(void);
void wait_for_change(void);
void tell_of_change(void);
/* The code of the fault that the kernel about to run is to have. */
CUresult next_kernel_fault(void);
/* Objects of earlier tests do not count. */
extern unsigned generation;
/* Within a callback the driver may not be called. */
extern _Thread_local bool in_callback;

/* device.c */

struct CUctx_st {
    unsigned retained;
    CUresult lost; /* the fault that ended it */
};

extern struct CUctx_st primary;
extern bool initialised;
extern size_t total_bytes;

CUresult context_state(void);
int attribute(CUdevice_attribute which);
void reset_device(void);
/* NULL if this library has no such function. */
void *own_function(const char *name);

/* memory.c */

enum kind { PAGEABLE, DEVICE, MANAGED, PAGE_LOCKED, REGISTERED, KINDS };

enum kind kind_of(const void *address);
/* Whether all of it is memory the device may reach. */
bool reachable(const void *address, size_t bytes);
bool was_freed(const void *address);
/* Whether a kernel has written beside what was allocated. */
bool overrun(void);
size_t live_bytes(enum kind kind);
unsigned live_ranges(enum kind kind);
void reset_memory(void);

/* work.c: streams and what they hold */

struct nodes {
    uint64_t bits[MAX_NODES / 64];
};

struct copy {
    char *target;
    const char *source;
    size_t target_pitch, source_pitch, width_bytes, rows;
};

struct fill {
    char *target;
    size_t pitch, width, rows;
    unsigned value, element_bytes;
};

struct launch {
    CUfunction function;
    unsigned grid[3], block[3];
};

struct work {
    enum { COPY, FILL, KERNEL, CALLBACK, RECORD, WAIT, GRAPH } kind;
    uint64_t position;
    void *payload; /* its own: a copy of the arguments or of the source */
    struct work *next;
    union {
        struct copy copy;
        struct fill fill;
        struct launch launch;
        struct {
            CUhostFn function;
            void *data;
        } callback;
        CUevent event;
        struct {
            CUstream stream;
            uint64_t position;
        } until;
        CUgraph graph;
    };
};

struct CUstream_st {
    bool alive, blocking, running;
    int priority;
    unsigned flags, generation;
    uint64_t queued, done; /* positions */
    struct work *first, *last;
    CUgraph capture;
    struct nodes before; /* the nodes of the capture that the next one comes after */
    struct CUstream_st *next;
};

struct CUevent_st {
    bool alive, timed;
    unsigned generation;
    CUstream stream; /* of the last record; NULL before the first */
    uint64_t position;
    int64_t time_ns;
    CUgraph capture;
    struct nodes before;
};

struct node {
    struct work work;
    struct nodes before;
};

struct CUgraph_st {
    bool alive, spoilt;
    unsigned generation;
    CUstream origin;
    CUstreamCaptureMode mode;
    pthread_t thread;
    unsigned count;
    struct node nodes[MAX_NODES];
};

extern struct CUstream_st legacy; /* the default stream, first of all streams */

/* NULL if there is no such stream. */
CUstream find_stream(CUstream handle);
/* Takes over the payload whatever it returns. */
CUresult submit(CUstream stream, struct work work);
/* Waits for a stream's work up to a position. With `patient` false it does not wait for what another thread runs. */
CUresult run_until(CUstream stream, uint64_t position, bool patient);
CUresult run_everything(void);
unsigned pending(void);
void drop_work(void);
bool contains(const struct nodes *set, unsigned node);
void join(struct nodes *set, const struct nodes *other);

/* streams.c */

/* Refuses what may not be done while a stream is captured, and spoils the capture. */
CUresult unsafe_in_capture(void);
unsigned live_streams(void);
unsigned live_events(void);
unsigned live_graphs(void);

/* kernels.c */

unsigned live_modules(void);
void run_kernel(const struct launch *launch, const void *arguments);

#endif
