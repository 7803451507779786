/* Events: new buffers on a stream, the loss of the device on the host's module for it; errors can be registered
 * everywhere and never come. */
#include "producer.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LOSS_POLL_NS 5000000u /* how late a lost device is noticed by one who waits */

/* EventDeviceLost of local_device.xml. */
struct device_lost {
    uint64_t id;
    uint64_t timestamp_ns;
};

union event_data {
    EVENT_NEW_BUFFER_DATA new_buffer;
    struct device_lost device_lost;
};

static struct event **find_event(struct module *source, EVENT_TYPE type) {
    struct event **link = &source->events;
    while (*link != NULL && (*link)->type != type) link = &(*link)->next;
    return link;
}

static GC_ERROR register_event(void *handle, EVENT_TYPE type, EVENT_HANDLE *result) {
    struct module *source = handle_resolve(handle, ANY_MODULE);
    if (source == NULL) return GC_ERR_INVALID_HANDLE;
    if (source->kind == BUFFER || source->kind == EVENT)
        return fail(GC_ERR_INVALID_HANDLE, "%p is not the handle of an event source", handle);
    if (result == NULL) return fail(GC_ERR_INVALID_PARAMETER, "the handle must not be NULL");
    if (type != EVENT_ERROR && !(type == EVENT_NEW_BUFFER && source->kind == STREAM) &&
        !(type == EVENT_MODULE && source->kind == DEVICE))
        return fail(GC_ERR_NOT_IMPLEMENTED, "event type %d", (int)type);
    struct event **link = find_event(source, type);
    if (*link != NULL) return fail(GC_ERR_RESOURCE_IN_USE, "event type %d is registered already", (int)type);
    struct event *event = calloc(1, sizeof *event);
    if (event == NULL) return fail(GC_ERR_OUT_OF_MEMORY, "no memory for the event");
    if (!handle_create(&event->module, EVENT)) {
        free(event);
        return GC_ERR_RESOURCE_EXHAUSTED;
    }
    event->source = source;
    event->type = type;
    *link = event;
    *result = event->module.handle;
    return GC_ERR_SUCCESS;
}

static void release_event(struct event **link) {
    struct event *event = *link;
    *link = event->next;
    handle_release(&event->module);
    free(event);
    producer_changed(); /* whoever waits for it finds its handle gone */
}

void events_release(struct module *source) {
    while (source->events != NULL) release_event(&source->events);
}

static GC_ERROR unregister_event(void *handle, EVENT_TYPE type) {
    struct module *source = handle_resolve(handle, ANY_MODULE);
    if (source == NULL) return GC_ERR_INVALID_HANDLE;
    struct event **link = find_event(source, type);
    if (*link == NULL) return fail(GC_ERR_INVALID_PARAMETER, "event type %d is not registered", (int)type);
    release_event(link);
    return GC_ERR_SUCCESS;
}

static struct stream *stream_of(const struct event *event) {
    return event->type == EVENT_NEW_BUFFER ? (struct stream *)event->source : NULL;
}

static const struct device *device_of(const struct event *event) {
    switch (event->source->kind) {
    case DEVICE:
        return (const struct device *)event->source;
    case REMOTE_DEVICE:
        return (const struct device *)((const char *)event->source - offsetof(struct device, remote));
    case STREAM:
        return ((const struct stream *)event->source)->device;
    default:
        return NULL;
    }
}

/* Whether a wait is to end because the device is lost; of one that went silent only its ports tell. */
static bool aborts(const struct event *event) {
    const struct device *device = device_of(event);
    if (device == NULL || !device_is_lost(device) || event->type == EVENT_MODULE) return false;
    uint32_t link = atomic_load(&device->file.header->link);
    return link != LINK_SILENT && link != LINK_LOST;
}

static bool tells_loss(const struct event *event) {
    const struct device *device = event->type == EVENT_MODULE ? device_of(event) : NULL;
    return device != NULL && event->fired == 0 && device->event_notification && device_is_lost(device) &&
           atomic_load(&device->file.header->link) != LINK_SILENT;
}

/* GC_ERR_BUSY while there is nothing to say. */
static GC_ERROR look(struct event *event, union event_data *data) {
    struct stream *stream = stream_of(event);
    if (event->kills > 0) {
        event->kills -= 1;
        return fail(GC_ERR_ABORT, "the wait was killed");
    }
    struct buffer *buffer = stream != NULL ? queue_pop(&stream->output) : NULL;
    if (buffer != NULL) {
        data->new_buffer = (EVENT_NEW_BUFFER_DATA){buffer->module.handle, buffer->user};
        return GC_ERR_SUCCESS;
    }
    if (tells_loss(event)) {
        data->device_lost = (struct device_lost){EVENT_ID_DEVICE_LOST, now_ns()};
        return GC_ERR_SUCCESS;
    }
    return aborts(event) ? fail(GC_ERR_ABORT, "the device was lost") : GC_ERR_BUSY;
}

static GC_ERROR get_data(EVENT_HANDLE handle, struct answer answer, uint64_t timeout_ms) {
    union event_data data;
    if (answer.size == NULL) return fail(GC_ERR_INVALID_PARAMETER, "the size must not be NULL");
    if (answer.buffer != NULL && *answer.size < sizeof data)
        return fail(GC_ERR_BUFFER_TOO_SMALL, "event data takes %zu bytes", sizeof data);
    uint64_t now = now_ns();
    uint64_t deadline_ns = timeout_ms > (UINT64_MAX - now) / 1000000u ? UINT64_MAX : now + timeout_ms * 1000000u;
    struct event *event = (struct event *)handle_resolve(handle, EVENT);
    if (event == NULL) return GC_ERR_INVALID_HANDLE;
    for (;;) {
        GC_ERROR code = look(event, &data);
        if (code == GC_ERR_SUCCESS) break;
        if (code != GC_ERR_BUSY) return code;
        now = now_ns();
        if (now >= deadline_ns) return fail(GC_ERR_TIMEOUT, "no event within %llu ms", (unsigned long long)timeout_ms);
        producer_wait_as_client_until(deadline_ns - now < LOSS_POLL_NS ? deadline_ns : now + LOSS_POLL_NS);
        event = (struct event *)handle_resolve(handle, EVENT);
        if (event == NULL) return fail(GC_ERR_ABORT, "the event was unregistered meanwhile");
    }
    event->fired += 1;
    if (answer.buffer != NULL) memcpy(answer.buffer, &data, sizeof data);
    *answer.size = sizeof data;
    return GC_ERR_SUCCESS;
}

static GC_ERROR answer_new_buffer(const EVENT_NEW_BUFFER_DATA *data, EVENT_DATA_INFO_CMD command,
                                  struct answer answer) {
    switch (command) {
    case EVENT_DATA_ID:
        return answer_pointer(answer, data->BufferHandle);
    case EVENT_DATA_VALUE:
        return answer_pointer(answer, data->pUserPointer);
    default:
        return fail(GC_ERR_NOT_IMPLEMENTED, "EVENT_DATA command %d", (int)command);
    }
}

static GC_ERROR answer_device_lost(const struct device_lost *data, EVENT_DATA_INFO_CMD command, struct answer answer) {
    char id[17];
    switch (command) {
    case EVENT_DATA_ID:
        snprintf(id, sizeof id, "%" PRIx64, data->id);
        return answer_string(answer, id);
    case EVENT_DATA_NUMID:
        return answer_uint64(answer, data->id);
    case EVENT_DATA_VALUE:
        return answer_bytes(answer, INFO_DATATYPE_BUFFER, data, sizeof *data);
    default:
        return fail(GC_ERR_NOT_IMPLEMENTED, "EVENT_DATA command %d", (int)command);
    }
}

static GC_ERROR get_data_info(const struct event *event, const void *bytes, size_t size, EVENT_DATA_INFO_CMD command,
                              struct answer answer) {
    union event_data data;
    if (bytes == NULL || size != sizeof data) return fail(GC_ERR_INVALID_PARAMETER, "this is no event data");
    memcpy(&data, bytes, sizeof data);
    return event->type == EVENT_MODULE ? answer_device_lost(&data.device_lost, command, answer)
                                       : answer_new_buffer(&data.new_buffer, command, answer);
}

static GC_ERROR get_info(const struct event *event, EVENT_INFO_CMD command, struct answer answer) {
    const struct stream *stream = stream_of(event);
    switch (command) {
    case EVENT_EVENT_TYPE:
        return answer_int32(answer, event->type);
    case EVENT_NUM_IN_QUEUE:
        return answer_size(answer, stream != NULL ? stream->output.length : tells_loss(event));
    case EVENT_NUM_FIRED:
        return answer_uint64(answer, event->fired);
    case EVENT_SIZE_MAX:
    case EVENT_INFO_DATA_SIZE_MAX:
        return answer_size(answer, sizeof(union event_data));
    default:
        return fail(GC_ERR_NOT_IMPLEMENTED, "EVENT_INFO command %d", (int)command);
    }
}

static GC_ERROR flush(struct event *event) {
    struct stream *stream = stream_of(event);
    while (stream != NULL && queue_pop(&stream->output) != NULL) continue;
    return GC_ERR_SUCCESS;
}

static GC_ERROR kill_wait(struct event *event) {
    event->kills += 1;
    producer_changed();
    return GC_ERR_SUCCESS;
}

GC_API GCRegisterEvent(EVENTSRC_HANDLE source, EVENT_TYPE type, EVENT_HANDLE *event) {
    LOCKED(register_event(source, type, event));
}

GC_API GCUnregisterEvent(EVENTSRC_HANDLE source, EVENT_TYPE type) { LOCKED(unregister_event(source, type)); }

GC_API EventGetData(EVENT_HANDLE handle, void *buffer, size_t *size, uint64_t timeout_ms) {
    LOCKED(get_data(handle, (struct answer){NULL, buffer, size}, timeout_ms));
}

GC_API EventGetDataInfo(EVENT_HANDLE handle, const void *data, size_t bytes, EVENT_DATA_INFO_CMD command,
                        INFO_DATATYPE *type, void *buffer, size_t *size) {
    ON(event, EVENT, get_data_info(event, data, bytes, command, (struct answer){type, buffer, size}));
}

GC_API EventGetInfo(EVENT_HANDLE handle, EVENT_INFO_CMD command, INFO_DATATYPE *type, void *buffer, size_t *size) {
    ON(event, EVENT, get_info(event, command, (struct answer){type, buffer, size}));
}

GC_API EventFlush(EVENT_HANDLE handle) { ON(event, EVENT, flush(event)); }

GC_API EventKill(EVENT_HANDLE handle) { ON(event, EVENT, kill_wait(event)); }
