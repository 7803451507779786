/* Streams' queues, and how work in them comes to run. */
#define _GNU_SOURCE
#include "fake_cuda.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

struct CUstream_st legacy = {.alive = true, .blocking = true};

CUstream find_stream(CUstream handle) {
    if (!handle || handle == CU_STREAM_LEGACY || handle == CU_STREAM_PER_THREAD)
        return &legacy;
    for (CUstream stream = legacy.next; stream; stream = stream->next)
        if (stream == handle && stream->alive)
            return stream;
    return NULL;
}

bool contains(const struct nodes *set, unsigned node) { return set->bits[node / 64] >> node % 64 & 1; }

void join(struct nodes *set, const struct nodes *other) {
    for (unsigned i = 0; i < MAX_NODES / 64; i++)
        set->bits[i] |= other->bits[i];
}

static void append(CUstream stream, struct work work) {
    struct work *added = malloc(sizeof *added);
    *added = work;
    added->next = NULL;
    added->position = ++stream->queued;
    if (stream->last)
        stream->last->next = added;
    else
        stream->first = added;
    stream->last = added;
}

static void append_wait(CUstream stream, CUstream other) {
    if (other->queued > other->done)
        append(stream, (struct work){.kind = WAIT, .until = {other, other->queued}});
}

static CUresult add_node(CUstream stream, struct work work) {
    CUgraph graph = stream->capture;
    if (graph->spoilt || graph->count == MAX_NODES) {
        free(work.payload);
        return graph->spoilt ? CUDA_ERROR_STREAM_CAPTURE_INVALIDATED : CUDA_ERROR_OUT_OF_MEMORY;
    }
    unsigned index = graph->count++;
    graph->nodes[index] = (struct node){work, stream->before};
    stream->before.bits[index / 64] |= (uint64_t)1 << index % 64;
    return CUDA_SUCCESS;
}

/* The default stream comes after all that is in the streams not made CU_STREAM_NON_BLOCKING, and they after it. */
CUresult submit(CUstream stream, struct work work) {
    if (stream->capture)
        return add_node(stream, work);
    if (stream == &legacy) {
        for (CUstream other = legacy.next; other; other = other->next) {
            if (other->capture && other->blocking) {
                other->capture->spoilt = true;
                free(work.payload);
                return CUDA_ERROR_STREAM_CAPTURE_IMPLICIT;
            }
            if (other->blocking)
                append_wait(&legacy, other);
        }
    } else if (stream->blocking) {
        append_wait(stream, &legacy);
    }
    append(stream, work);
    return CUDA_SUCCESS;
}

static int64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static void run_copy(const struct copy *copy, const void *snapshot) {
    const char *source = snapshot ? snapshot : copy->source;
    size_t pitch = snapshot ? copy->width_bytes : copy->source_pitch;
    for (size_t row = 0; row < copy->rows; row++)
        memmove(copy->target + row * copy->target_pitch, source + row * pitch, copy->width_bytes);
}

static void run_fill(const struct fill *fill) {
    for (size_t row = 0; row < fill->rows; row++)
        for (size_t i = 0; i < fill->width; i++)
            memcpy(fill->target + row * fill->pitch + i * fill->element_bytes, &fill->value, fill->element_bytes);
}

/* Without the lock, for it may take long and call back. */
static void run_unlocked(const struct work *work) {
    release_lock();
    if (work->kind == COPY) {
        run_copy(&work->copy, work->payload);
    } else if (work->kind == FILL) {
        run_fill(&work->fill);
    } else if (work->kind == KERNEL) {
        run_kernel(&work->launch, work->payload);
    } else {
        in_callback = true;
        work->callback.function(work->callback.data);
        in_callback = false;
    }
    take_lock();
}

static CUresult run_one(CUstream stream, const struct work *work);

/* Of the nodes that may run, always the one captured last: a dependency that was forgotten shows. */
static CUresult run_graph(CUstream stream, CUgraph graph) {
    struct nodes done = {0};
    for (unsigned ran = 0; ran < graph->count; ran++) {
        unsigned index = graph->count;
        bool ready = false;
        while (!ready && index--) {
            ready = !contains(&done, index);
            for (unsigned i = 0; i < MAX_NODES / 64; i++)
                ready = ready && !(graph->nodes[index].before.bits[i] & ~done.bits[i]);
        }
        CUresult code = run_one(stream, &graph->nodes[index].work);
        if (code)
            return code;
        done.bits[index / 64] |= (uint64_t)1 << index % 64;
    }
    return CUDA_SUCCESS;
}

static CUresult run_one(CUstream stream, const struct work *work) {
    CUresult fault = CUDA_SUCCESS;
    switch (work->kind) {
    case WAIT:
        return CUDA_SUCCESS;
    case RECORD:
        if (work->event->stream == stream && work->event->position == work->position)
            work->event->time_ns = now_ns();
        return CUDA_SUCCESS;
    case GRAPH:
        return run_graph(stream, work->graph);
    case COPY:
        if (was_freed(work->copy.target) || was_freed(work->copy.source))
            fault = CUDA_ERROR_ILLEGAL_ADDRESS;
        break;
    case FILL:
        if (was_freed(work->fill.target))
            fault = CUDA_ERROR_ILLEGAL_ADDRESS;
        break;
    case KERNEL:
        fault = next_kernel_fault();
        break;
    case CALLBACK:
        break;
    }
    if (!fault)
        run_unlocked(work);
    if (!fault && work->kind == KERNEL && overrun())
        fault = CUDA_ERROR_ILLEGAL_ADDRESS;
    if (fault)
        primary.lost = fault;
    return fault;
}

static void finish(CUstream stream) {
    struct work *work = stream->first;
    stream->first = work->next;
    if (!stream->first)
        stream->last = NULL;
    stream->done = work->position;
    free(work->payload);
    free(work);
    tell_of_change();
}

CUresult run_until(CUstream stream, uint64_t position, bool patient) {
    while (stream->done < position) {
        if (primary.lost)
            return primary.lost;
        if (stream->running) {
            if (!patient)
                return CUDA_ERROR_NOT_READY;
            wait_for_change();
            continue;
        }
        struct work *work = stream->first;
        if (work->kind == WAIT && work->until.stream->done < work->until.position) {
            /* Another thread may have run all of it meanwhile: look again. */
            CUresult code = run_until(work->until.stream, work->until.position, patient);
            if (code)
                return code;
            continue;
        }
        stream->running = true;
        CUresult code = run_one(stream, work);
        stream->running = false;
        if (code) {
            tell_of_change();
            return code;
        }
        finish(stream);
    }
    return CUDA_SUCCESS;
}

CUresult run_everything(void) {
    for (CUstream stream = &legacy; stream; stream = stream->next) {
        CUresult code = run_until(stream, stream->queued, true);
        if (code)
            return code;
    }
    return CUDA_SUCCESS;
}

unsigned pending(void) {
    unsigned count = 0;
    for (CUstream stream = &legacy; stream; stream = stream->next)
        count += (unsigned)(stream->queued - stream->done);
    return count;
}

void drop_work(void) {
    for (CUstream stream = &legacy; stream; stream = stream->next) {
        while (stream->running)
            wait_for_change();
        while (stream->first)
            finish(stream);
        stream->capture = NULL;
    }
}
