/* The data stream: the acquisition engine on the host's side of the transport layer. */
#include "producer.h"

#include <stdlib.h>

GC_ERROR stream_open(struct device *device, DS_HANDLE *handle) {
    GC_ERROR code = device_check(device);
    if (code != GC_ERR_SUCCESS) return code;
    struct stream *stream = calloc(1, sizeof *stream);
    if (stream == NULL) return fail(GC_ERR_OUT_OF_MEMORY, "no memory for the stream");
    if (!handle_create(&stream->module, STREAM)) {
        free(stream);
        return GC_ERR_RESOURCE_EXHAUSTED;
    }
    stream->device = device;
    device->stream = stream;
    *handle = stream->module.handle;
    return GC_ERR_SUCCESS;
}

static GC_ERROR start(struct stream *stream) {
    GC_ERROR code = device_check(stream->device);
    if (code != GC_ERR_SUCCESS) return code;
    if (stream->is_running) return fail(GC_ERR_RESOURCE_IN_USE, "the stream is running already");
    stream->started = stream->delivered = stream->underruns = 0;
    stream->is_running = true;
    if (pthread_create(&stream->thread, NULL, sensor_run, stream) == 0) return GC_ERR_SUCCESS;
    stream->is_running = false;
    return fail(GC_ERR_RESOURCE_EXHAUSTED, "no thread for the stream");
}

static void stream_stop(struct stream *stream) {
    if (!stream->is_running) return;
    stream->is_running = false;
    producer_changed();
    producer_unlock();
    pthread_join(stream->thread, NULL);
    producer_lock();
}

void stream_close(struct stream *stream) {
    stream_stop(stream);
    while (stream->announced != NULL) buffer_release(stream->announced);
    events_release(&stream->module);
    handle_release(&stream->module);
    stream->device->stream = NULL;
    free(stream);
}

static GC_ERROR stop(struct stream *stream) {
    if (!stream->is_running) return fail(GC_ERR_RESOURCE_IN_USE, "the stream is not running");
    stream_stop(stream);
    return GC_ERR_SUCCESS;
}

static void discard(struct queue *queue) {
    while (queue_pop(queue) != NULL) continue;
}

static void move_to_input(struct stream *stream, bool also_delivered) {
    if (also_delivered) discard(&stream->output);
    for (struct buffer *buffer = stream->announced; buffer != NULL; buffer = buffer->next_announced)
        if (buffer->state == BUFFER_IDLE) queue_push(&stream->input, buffer, BUFFER_QUEUED);
}

static GC_ERROR flush(struct stream *stream, ACQ_QUEUE_TYPE operation) {
    switch (operation) {
    case ACQ_QUEUE_INPUT_TO_OUTPUT:
        for (struct buffer *buffer; (buffer = queue_pop(&stream->input)) != NULL;)
            queue_push(&stream->output, buffer, BUFFER_DELIVERED);
        producer_changed();
        return GC_ERR_SUCCESS;
    case ACQ_QUEUE_OUTPUT_DISCARD:
        discard(&stream->output);
        return GC_ERR_SUCCESS;
    case ACQ_QUEUE_ALL_TO_INPUT:
    case ACQ_QUEUE_UNQUEUED_TO_INPUT:
        move_to_input(stream, operation == ACQ_QUEUE_ALL_TO_INPUT);
        return GC_ERR_SUCCESS;
    case ACQ_QUEUE_ALL_DISCARD:
        discard(&stream->input);
        discard(&stream->output);
        return GC_ERR_SUCCESS;
    default:
        return fail(GC_ERR_INVALID_PARAMETER, "queue operation %d", (int)operation);
    }
}

static uint64_t count_announced(const struct stream *stream) {
    uint64_t count = 0;
    for (const struct buffer *buffer = stream->announced; buffer != NULL; buffer = buffer->next_announced) ++count;
    return count;
}

static GC_ERROR answer_stream(const struct stream *stream, STREAM_INFO_CMD command, struct answer answer) {
    switch (command) {
    case STREAM_INFO_ID:
        return answer_string(answer, STREAM_ID);
    case STREAM_INFO_NUM_DELIVERED:
        return answer_uint64(answer, stream->delivered);
    case STREAM_INFO_NUM_UNDERRUN:
        return answer_uint64(answer, stream->underruns);
    case STREAM_INFO_NUM_ANNOUNCED:
        return answer_size(answer, count_announced(stream));
    case STREAM_INFO_NUM_QUEUED:
        return answer_size(answer, stream->input.length);
    case STREAM_INFO_NUM_AWAIT_DELIVERY:
        return answer_size(answer, stream->output.length);
    case STREAM_INFO_NUM_STARTED:
        return answer_uint64(answer, stream->started);
    case STREAM_INFO_PAYLOAD_SIZE:
        return answer_size(answer, payload_bytes(&stream->device->registers));
    case STREAM_INFO_IS_GRABBING:
        return answer_bool8(answer, stream->is_running);
    case STREAM_INFO_DEFINES_PAYLOADSIZE:
        return answer_bool8(answer, false);
    case STREAM_INFO_TLTYPE:
        return answer_string(answer, PRODUCER_TLTYPE);
    case STREAM_INFO_NUM_CHUNKS_MAX:
        return answer_size(answer, CHUNK_COUNT);
    case STREAM_INFO_BUF_ANNOUNCE_MIN:
        return answer_size(answer, 1);
    case STREAM_INFO_BUF_ALIGNMENT:
        return answer_size(answer, 1);
    default:
        return fail(GC_ERR_NOT_IMPLEMENTED, "STREAM_INFO command %d", (int)command);
    }
}

GC_API DSClose(DS_HANDLE handle) { ON(stream, STREAM, (stream_close(stream), GC_ERR_SUCCESS)); }

GC_API DSGetInfo(DS_HANDLE handle, STREAM_INFO_CMD command, INFO_DATATYPE *type, void *buffer, size_t *size) {
    ON(stream, STREAM, answer_stream(stream, command, (struct answer){type, buffer, size}));
}

GC_API DSGetParentDev(DS_HANDLE handle, DEV_HANDLE *device) {
    ON(stream, STREAM, give_handle(device, stream->device->module.handle));
}

GC_API DSStartAcquisition(DS_HANDLE handle, ACQ_START_FLAGS flags, uint64_t frames) {
    (void)flags;
    (void)frames; /* the remote device decides how many it takes: AcquisitionMode is always Continuous */
    ON(stream, STREAM, start(stream));
}

GC_API DSStopAcquisition(DS_HANDLE handle, ACQ_STOP_FLAGS flags) {
    (void)flags; /* a frame that is being taken is given up in any case */
    ON(stream, STREAM, stop(stream));
}

GC_API DSFlushQueue(DS_HANDLE handle, ACQ_QUEUE_TYPE operation) { ON(stream, STREAM, flush(stream, operation)); }
