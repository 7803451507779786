/* Streams, events, capture and graphs. */
#include "fake_cuda.h"

#include <stdlib.h>
#include <string.h>

/* What is destroyed is kept: a use of it is then refused and does no harm. */
static CUevent *all_events;
static CUgraph *all_graphs;
static unsigned event_count, graph_count;

CUresult unsafe_in_capture(void) {
    for (CUstream stream = legacy.next; stream; stream = stream->next) {
        CUgraph graph = stream->capture;
        if (!graph || graph->mode == CU_STREAM_CAPTURE_MODE_RELAXED)
            continue;
        if (graph->mode == CU_STREAM_CAPTURE_MODE_GLOBAL || pthread_equal(graph->thread, pthread_self())) {
            graph->spoilt = true;
            return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
        }
    }
    return CUDA_SUCCESS;
}

unsigned live_streams(void) {
    unsigned count = 0;
    for (CUstream stream = legacy.next; stream; stream = stream->next)
        count += stream->alive && stream->generation == generation;
    return count;
}

unsigned live_events(void) {
    unsigned count = 0;
    for (unsigned i = 0; i < event_count; i++)
        count += all_events[i]->alive && all_events[i]->generation == generation;
    return count;
}

unsigned live_graphs(void) {
    unsigned count = 0;
    for (unsigned i = 0; i < graph_count; i++)
        count += all_graphs[i]->alive && all_graphs[i]->generation == generation;
    return count;
}

#define FIND_STREAM(stream, handle)         \
    CUstream stream = find_stream(handle);  \
    REFUSE_UNLESS(stream, CUDA_ERROR_INVALID_HANDLE)

static CUresult create_stream(CUstream *handle, unsigned flags, int priority) {
    REFUSE_UNLESS(flags <= CU_STREAM_NON_BLOCKING, CUDA_ERROR_INVALID_VALUE);
    CUstream stream = calloc(1, sizeof *stream);
    stream->alive = true;
    stream->blocking = !(flags & CU_STREAM_NON_BLOCKING);
    stream->flags = flags;
    stream->priority = priority < -5 ? -5 : priority > 0 ? 0 : priority;
    stream->generation = generation;
    stream->next = legacy.next;
    legacy.next = stream;
    *handle = stream;
    return leave(CUDA_SUCCESS);
}

CUresult cuStreamCreate(CUstream *handle, unsigned flags) {
    ENTER(CONTEXT);
    return create_stream(handle, flags, 0);
}

CUresult cuStreamCreateWithPriority(CUstream *handle, unsigned flags, int priority) {
    ENTER(CONTEXT);
    return create_stream(handle, flags, priority);
}

CUresult cuCtxGetStreamPriorityRange(int *least, int *greatest) {
    ENTER(CONTEXT);
    *least = 0;
    *greatest = -5;
    return leave(CUDA_SUCCESS);
}

CUresult cuStreamGetFlags(CUstream handle, unsigned *flags) {
    ENTER(CONTEXT);
    FIND_STREAM(stream, handle);
    *flags = stream->flags;
    return leave(CUDA_SUCCESS);
}

CUresult cuStreamGetPriority(CUstream handle, int *priority) {
    ENTER(CONTEXT);
    FIND_STREAM(stream, handle);
    *priority = stream->priority;
    return leave(CUDA_SUCCESS);
}

CUresult cuStreamGetCtx(CUstream handle, CUcontext *context) {
    ENTER(CONTEXT);
    FIND_STREAM(stream, handle);
    *context = &primary;
    return leave(CUDA_SUCCESS);
}

/* Its work remains to be done, as with the driver. */
CUresult cuStreamDestroy(CUstream handle) {
    ENTER(ANY_CONTEXT);
    FIND_STREAM(stream, handle);
    REFUSE_UNLESS(stream != &legacy, CUDA_ERROR_INVALID_HANDLE);
    stream->alive = false;
    return leave(primary.lost);
}

static CUresult wait_for_stream(CUstream handle, bool patient) {
    FIND_STREAM(stream, handle);
    CUresult refused = unsafe_in_capture();
    if (!refused && stream->capture) {
        stream->capture->spoilt = true;
        refused = CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
    }
    REFUSE_UNLESS(!refused, refused);
    return leave(run_until(stream, stream->queued, patient));
}

CUresult cuStreamSynchronize(CUstream handle) {
    ENTER(CONTEXT);
    return wait_for_stream(handle, true);
}

CUresult cuStreamQuery(CUstream handle) {
    ENTER(CONTEXT);
    return wait_for_stream(handle, false);
}

CUresult cuCtxSynchronize(void) {
    ENTER(CONTEXT);
    CUresult refused = unsafe_in_capture();
    REFUSE_UNLESS(!refused, refused);
    return leave(run_everything());
}

CUresult cuLaunchHostFunc(CUstream handle, CUhostFn function, void *data) {
    ENTER(CONTEXT);
    FIND_STREAM(stream, handle);
    return leave(submit(stream, (struct work){.kind = CALLBACK, .callback = {function, data}}));
}

static CUevent find_event(CUevent handle) {
    for (unsigned i = 0; i < event_count; i++)
        if (all_events[i] == handle && handle->alive)
            return handle;
    return NULL;
}

#define FIND_EVENT(event, handle)        \
    CUevent event = find_event(handle);  \
    REFUSE_UNLESS(event, CUDA_ERROR_INVALID_HANDLE)

CUresult cuEventCreate(CUevent *handle, unsigned flags) {
    ENTER(CONTEXT);
    CUevent event = calloc(1, sizeof *event);
    *event = (struct CUevent_st){.alive = true, .timed = !(flags & CU_EVENT_DISABLE_TIMING), .generation = generation};
    all_events = realloc(all_events, (event_count + 1) * sizeof *all_events);
    all_events[event_count++] = event;
    *handle = event;
    return leave(CUDA_SUCCESS);
}

CUresult cuEventDestroy(CUevent handle) {
    ENTER(ANY_CONTEXT);
    FIND_EVENT(event, handle);
    event->alive = false;
    return leave(primary.lost);
}

/* An event stands for a position in a stream, the one at the time of the call. */
CUresult cuEventRecord(CUevent handle, CUstream stream_handle) {
    ENTER(CONTEXT);
    FIND_EVENT(event, handle);
    FIND_STREAM(stream, stream_handle);
    event->capture = stream->capture;
    if (stream->capture) {
        event->before = stream->before;
        return leave(stream->capture->spoilt ? CUDA_ERROR_STREAM_CAPTURE_INVALIDATED : CUDA_SUCCESS);
    }
    CUresult code = submit(stream, (struct work){.kind = RECORD, .event = event});
    event->stream = stream;
    event->position = stream->queued;
    return leave(code);
}

static CUresult wait_in_capture(CUstream stream, CUevent event) {
    CUgraph graph = stream->capture ? stream->capture : event->capture;
    bool captured_elsewhere = event->capture != graph;
    if (captured_elsewhere || graph->origin == NULL) {
        if (stream->capture)
            graph->spoilt = true;
        return event->capture ? CUDA_ERROR_STREAM_CAPTURE_MERGE : CUDA_ERROR_STREAM_CAPTURE_ISOLATION;
    }
    if (!stream->capture)
        memset(&stream->before, 0, sizeof stream->before);
    stream->capture = graph;
    join(&stream->before, &event->before);
    return CUDA_SUCCESS;
}

CUresult cuStreamWaitEvent(CUstream stream_handle, CUevent handle, unsigned flags) {
    (void)flags;
    ENTER(CONTEXT);
    FIND_STREAM(stream, stream_handle);
    FIND_EVENT(event, handle);
    if (!event->stream && !event->capture)
        return leave(CUDA_SUCCESS);
    if (stream->capture || event->capture)
        return leave(wait_in_capture(stream, event));
    return leave(submit(stream, (struct work){.kind = WAIT, .until = {event->stream, event->position}}));
}

static CUresult wait_for_event(CUevent handle, bool patient) {
    FIND_EVENT(event, handle);
    REFUSE_UNLESS(!event->capture, CUDA_ERROR_CAPTURED_EVENT);
    CUresult refused = unsafe_in_capture();
    REFUSE_UNLESS(!refused, refused);
    return leave(event->stream ? run_until(event->stream, event->position, patient) : CUDA_SUCCESS);
}

CUresult cuEventSynchronize(CUevent handle) {
    ENTER(CONTEXT);
    return wait_for_event(handle, true);
}

CUresult cuEventQuery(CUevent handle) {
    ENTER(CONTEXT);
    return wait_for_event(handle, false);
}

/* By this machine's clock, when the work before each had run. */
CUresult cuEventElapsedTime(float *elapsed_ms, CUevent start_handle, CUevent end_handle) {
    ENTER(CONTEXT);
    FIND_EVENT(start, start_handle);
    FIND_EVENT(end, end_handle);
    REFUSE_UNLESS(start->timed && end->timed && start->stream && end->stream, CUDA_ERROR_INVALID_HANDLE);
    bool ran = start->stream->done >= start->position && end->stream->done >= end->position;
    REFUSE_UNLESS(ran, CUDA_ERROR_NOT_READY);
    int64_t elapsed_ns = end->time_ns - start->time_ns;
    *elapsed_ms = elapsed_ns > 0 ? (float)elapsed_ns / 1e6F : 0;
    return leave(CUDA_SUCCESS);
}

static CUgraph new_graph(void) {
    CUgraph graph = calloc(1, sizeof *graph);
    all_graphs = realloc(all_graphs, (graph_count + 1) * sizeof *all_graphs);
    all_graphs[graph_count++] = graph;
    graph->generation = generation;
    return graph;
}

CUresult cuStreamBeginCapture(CUstream handle, CUstreamCaptureMode mode) {
    ENTER(CONTEXT);
    FIND_STREAM(stream, handle);
    REFUSE_UNLESS(stream != &legacy, CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
    REFUSE_UNLESS(!stream->capture, CUDA_ERROR_ILLEGAL_STATE);
    CUgraph graph = new_graph();
    graph->origin = stream;
    graph->mode = mode;
    graph->thread = pthread_self();
    stream->capture = graph;
    memset(&stream->before, 0, sizeof stream->before);
    return leave(CUDA_SUCCESS);
}

CUresult cuStreamIsCapturing(CUstream handle, CUstreamCaptureStatus *status) {
    ENTER(CONTEXT);
    FIND_STREAM(stream, handle);
    *status = !stream->capture            ? CU_STREAM_CAPTURE_STATUS_NONE
              : stream->capture->spoilt   ? CU_STREAM_CAPTURE_STATUS_INVALIDATED
                                          : CU_STREAM_CAPTURE_STATUS_ACTIVE;
    return leave(CUDA_SUCCESS);
}

CUresult cuStreamEndCapture(CUstream handle, CUgraph *captured) {
    ENTER(CONTEXT);
    *captured = NULL;
    FIND_STREAM(stream, handle);
    CUgraph graph = stream->capture;
    REFUSE_UNLESS(graph, CUDA_ERROR_ILLEGAL_STATE);
    REFUSE_UNLESS(graph->origin == stream, CUDA_ERROR_STREAM_CAPTURE_UNMATCHED);
    bool own_thread = graph->mode == CU_STREAM_CAPTURE_MODE_RELAXED || pthread_equal(graph->thread, pthread_self());
    REFUSE_UNLESS(own_thread, CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD);
    for (CUstream other = legacy.next; other; other = other->next)
        if (other->capture == graph)
            other->capture = NULL;
    graph->origin = NULL;
    REFUSE_UNLESS(!graph->spoilt, CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
    for (unsigned i = 0; i < graph->count; i++)
        REFUSE_UNLESS(contains(&stream->before, i), CUDA_ERROR_STREAM_CAPTURE_UNJOINED);
    graph->alive = true;
    *captured = graph;
    return leave(CUDA_SUCCESS);
}

static CUgraph find_graph(const void *handle) {
    for (unsigned i = 0; i < graph_count; i++)
        if (all_graphs[i] == handle && all_graphs[i]->alive)
            return all_graphs[i];
    return NULL;
}

#define FIND_GRAPH(graph, handle)        \
    CUgraph graph = find_graph(handle);  \
    REFUSE_UNLESS(graph, CUDA_ERROR_INVALID_HANDLE)

/* An executable graph is a copy: the other may be destroyed. */
CUresult cuGraphInstantiate(CUgraphExec *executable, CUgraph handle, unsigned long long flags) {
    (void)flags;
    ENTER(CONTEXT);
    FIND_GRAPH(graph, handle);
    CUgraph copy = new_graph();
    *copy = *graph;
    copy->generation = generation;
    *executable = (CUgraphExec)copy;
    return leave(CUDA_SUCCESS);
}

CUresult cuGraphUpload(CUgraphExec executable, CUstream handle) {
    ENTER(CONTEXT);
    FIND_GRAPH(graph, executable);
    FIND_STREAM(stream, handle);
    return leave(CUDA_SUCCESS);
}

CUresult cuGraphLaunch(CUgraphExec executable, CUstream handle) {
    ENTER(CONTEXT);
    FIND_GRAPH(graph, executable);
    FIND_STREAM(stream, handle);
    REFUSE_UNLESS(!stream->capture, CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
    return leave(submit(stream, (struct work){.kind = GRAPH, .graph = graph}));
}

CUresult cuGraphGetNodes(CUgraph handle, CUgraphNode *nodes, size_t *count) {
    ENTER(CONTEXT);
    FIND_GRAPH(graph, handle);
    for (size_t i = 0; nodes && i < *count && i < graph->count; i++)
        nodes[i] = (CUgraphNode)&graph->nodes[i];
    *count = graph->count;
    return leave(CUDA_SUCCESS);
}

static CUresult destroy_graph(const void *handle) {
    FIND_GRAPH(graph, handle);
    graph->alive = false;
    return leave(primary.lost);
}

CUresult cuGraphDestroy(CUgraph handle) {
    ENTER(ANY_CONTEXT);
    return destroy_graph(handle);
}

CUresult cuGraphExecDestroy(CUgraphExec handle) {
    ENTER(ANY_CONTEXT);
    return destroy_graph(handle);
}
