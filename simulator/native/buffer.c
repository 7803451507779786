/* Buffers: announcing, the queues they wait in, and what they tell about the frame in them. */
#include "producer.h"

#include <stdlib.h>
#include <string.h>

void queue_push(struct queue *queue, struct buffer *buffer, enum buffer_state state) {
    buffer->state = state;
    buffer->next_queued = NULL;
    if (queue->last != NULL)
        queue->last->next_queued = buffer;
    else
        queue->first = buffer;
    queue->last = buffer;
    queue->length += 1;
}

struct buffer *queue_pop(struct queue *queue) {
    struct buffer *buffer = queue->first;
    if (buffer == NULL) return NULL;
    queue->first = buffer->next_queued;
    if (queue->first == NULL) queue->last = NULL;
    queue->length -= 1;
    buffer->state = BUFFER_IDLE;
    return buffer;
}

static void queue_remove(struct queue *queue, const struct buffer *unwanted) {
    struct queue kept = {0};
    enum buffer_state state = unwanted->state;
    for (struct buffer *buffer; (buffer = queue_pop(queue)) != NULL;)
        if (buffer != unwanted) queue_push(&kept, buffer, state);
    *queue = kept;
}

struct buffer *buffer_resolve(const struct stream *stream, void *handle) {
    struct buffer *buffer = (struct buffer *)handle_resolve(handle, BUFFER);
    if (buffer == NULL || buffer->stream == stream) return buffer;
    fail(GC_ERR_INVALID_HANDLE, "the buffer belongs to another stream");
    return NULL;
}

void buffer_release(struct buffer *buffer) {
    struct stream *stream = buffer->stream;
    if (buffer->state == BUFFER_QUEUED) queue_remove(&stream->input, buffer);
    if (buffer->state == BUFFER_DELIVERED) queue_remove(&stream->output, buffer);
    struct buffer **link = &stream->announced;
    while (*link != buffer) link = &(*link)->next_announced;
    *link = buffer->next_announced;
    handle_release(&buffer->module);
    if (buffer->is_ours) free(buffer->memory);
    free(buffer);
}

static GC_ERROR announce(struct stream *stream, void *memory, size_t bytes, void *user, bool is_ours,
                         BUFFER_HANDLE *handle) {
    struct buffer *buffer = calloc(1, sizeof *buffer);
    if (buffer == NULL) return fail(GC_ERR_OUT_OF_MEMORY, "no memory for the buffer");
    if (!handle_create(&buffer->module, BUFFER)) {
        free(buffer);
        return GC_ERR_RESOURCE_EXHAUSTED;
    }
    buffer->stream = stream;
    buffer->memory = memory;
    buffer->bytes = bytes;
    buffer->user = user;
    buffer->is_ours = is_ours;
    struct buffer **end = &stream->announced;
    while (*end != NULL) end = &(*end)->next_announced;
    *end = buffer;
    *handle = buffer->module.handle;
    return GC_ERR_SUCCESS;
}

static GC_ERROR announce_theirs(struct stream *stream, void *memory, size_t bytes, void *user, BUFFER_HANDLE *handle) {
    if (memory == NULL || bytes == 0 || handle == NULL)
        return fail(GC_ERR_INVALID_PARAMETER, "a buffer needs memory, a size and a place for its handle");
    return announce(stream, memory, bytes, user, false, handle);
}

static GC_ERROR announce_ours(struct stream *stream, size_t bytes, void *user, BUFFER_HANDLE *handle) {
    if (bytes == 0 || handle == NULL)
        return fail(GC_ERR_INVALID_PARAMETER, "a buffer needs a size and a place for its handle");
    void *memory = malloc(bytes);
    if (memory == NULL) return fail(GC_ERR_OUT_OF_MEMORY, "no memory for a buffer of %zu bytes", bytes);
    GC_ERROR code = announce(stream, memory, bytes, user, true, handle);
    if (code != GC_ERR_SUCCESS) free(memory);
    return code;
}

static GC_ERROR revoke(struct stream *stream, BUFFER_HANDLE handle, void **memory, void **user) {
    struct buffer *buffer = buffer_resolve(stream, handle);
    if (buffer == NULL) return GC_ERR_INVALID_HANDLE;
    if (buffer->state == BUFFER_ACQUIRING) return fail(GC_ERR_BUSY, "the buffer is being filled");
    if (memory != NULL) *memory = buffer->is_ours ? NULL : buffer->memory;
    if (user != NULL) *user = buffer->user;
    buffer_release(buffer);
    return GC_ERR_SUCCESS;
}

static GC_ERROR enqueue(struct stream *stream, BUFFER_HANDLE handle) {
    struct buffer *buffer = buffer_resolve(stream, handle);
    if (buffer == NULL) return GC_ERR_INVALID_HANDLE;
    if (buffer->state != BUFFER_IDLE) return fail(GC_ERR_RESOURCE_IN_USE, "the buffer is queued already");
    buffer->is_new = false;
    queue_push(&stream->input, buffer, BUFFER_QUEUED);
    return GC_ERR_SUCCESS;
}

static GC_ERROR answer_frame(const struct frame *frame, BUFFER_INFO_CMD command, struct answer answer) {
    switch (command) {
    case BUFFER_INFO_TIMESTAMP:
    case BUFFER_INFO_TIMESTAMP_NS:
        return answer_uint64(answer, frame->timestamp_ns);
    case BUFFER_INFO_IS_INCOMPLETE:
        return answer_bool8(answer, frame->is_incomplete);
    case BUFFER_INFO_SIZE_FILLED:
    case BUFFER_INFO_DATA_SIZE:
        return answer_size(answer, frame->filled_bytes);
    case BUFFER_INFO_WIDTH:
        return answer_size(answer, frame->width_px);
    case BUFFER_INFO_HEIGHT:
        return answer_size(answer, frame->height_px);
    case BUFFER_INFO_XOFFSET:
        return answer_size(answer, frame->x_px);
    case BUFFER_INFO_YOFFSET:
        return answer_size(answer, frame->y_px);
    case BUFFER_INFO_XPADDING:
    case BUFFER_INFO_YPADDING:
    case BUFFER_INFO_IMAGEOFFSET:
        return answer_size(answer, 0);
    case BUFFER_INFO_DELIVERED_CHUNKPAYLOADSIZE:
        return answer_size(answer, chunk_bytes(frame->chunks));
    case BUFFER_INFO_FRAMEID:
        return answer_uint64(answer, frame->id);
    case BUFFER_INFO_IMAGEPRESENT:
        return answer_bool8(answer, frame->is_present);
    case BUFFER_INFO_PAYLOADTYPE:
        return answer_size(answer, PAYLOAD_TYPE_IMAGE);
    case BUFFER_INFO_PIXELFORMAT:
        return answer_uint64(answer, frame->pixel_format);
    case BUFFER_INFO_PIXELFORMAT_NAMESPACE:
        return answer_uint64(answer, PIXELFORMAT_NAMESPACE_PFNC_32BIT);
    case BUFFER_INFO_DELIVERED_IMAGEHEIGHT:
        return answer_size(answer, frame->delivered_rows);
    case BUFFER_INFO_PIXEL_ENDIANNESS:
        return answer_int32(answer, PIXELENDIANNESS_LITTLE);
    case BUFFER_INFO_DATA_LARGER_THAN_BUFFER:
        return answer_bool8(answer, frame->is_too_large);
    case BUFFER_INFO_CONTAINS_CHUNKDATA:
        return answer_bool8(answer, frame->chunks != 0);
    default:
        return fail(GC_ERR_NOT_IMPLEMENTED, "BUFFER_INFO command %d", (int)command);
    }
}

static GC_ERROR get_info(const struct stream *stream, BUFFER_HANDLE handle, BUFFER_INFO_CMD command,
                         struct answer answer) {
    const struct buffer *buffer = buffer_resolve(stream, handle);
    if (buffer == NULL) return GC_ERR_INVALID_HANDLE;
    switch (command) {
    case BUFFER_INFO_BASE:
        return answer_pointer(answer, buffer->memory);
    case BUFFER_INFO_SIZE:
        return answer_size(answer, buffer->bytes);
    case BUFFER_INFO_USER_PTR:
        return answer_pointer(answer, buffer->user);
    case BUFFER_INFO_NEW_DATA:
        return answer_bool8(answer, buffer->is_new);
    case BUFFER_INFO_IS_QUEUED:
        return answer_bool8(answer, buffer->state == BUFFER_QUEUED || buffer->state == BUFFER_DELIVERED);
    case BUFFER_INFO_IS_ACQUIRING:
        return answer_bool8(answer, buffer->state == BUFFER_ACQUIRING);
    case BUFFER_INFO_TLTYPE:
        return answer_string(answer, PRODUCER_TLTYPE);
    default:
        return answer_frame(&buffer->frame, command, answer);
    }
}

static GC_ERROR get_chunks(const struct stream *stream, BUFFER_HANDLE handle, SINGLE_CHUNK_DATA *places,
                           size_t *count) {
    const struct buffer *buffer = buffer_resolve(stream, handle);
    if (buffer == NULL) return GC_ERR_INVALID_HANDLE;
    if (count == NULL) return fail(GC_ERR_INVALID_PARAMETER, "the count must not be NULL");
    SINGLE_CHUNK_DATA found[CHUNK_COUNT];
    size_t there = 0, offset = buffer->frame.filled_bytes - chunk_bytes(buffer->frame.chunks);
    for (uint32_t i = 0; i < CHUNK_COUNT; ++i) {
        if ((buffer->frame.chunks >> i & 1u) == 0) continue;
        found[there++] = (SINGLE_CHUNK_DATA){i + 1, (ptrdiff_t)offset, sizeof(union value)};
        offset += sizeof(union value);
    }
    if (places != NULL && *count < there) return fail(GC_ERR_BUFFER_TOO_SMALL, "there are %zu chunks", there);
    if (places != NULL) memcpy(places, found, there * sizeof *found);
    *count = there;
    return GC_ERR_SUCCESS;
}

static GC_ERROR get_buffer_id(const struct stream *stream, uint32_t index, BUFFER_HANDLE *handle) {
    const struct buffer *buffer = stream->announced;
    for (uint32_t i = 0; buffer != NULL && i < index; ++i) buffer = buffer->next_announced;
    if (buffer == NULL) return fail(GC_ERR_INVALID_INDEX, "buffer %u is not announced", index);
    return give_handle(handle, buffer->module.handle);
}

GC_API DSAnnounceBuffer(DS_HANDLE handle, void *memory, size_t bytes, void *user, BUFFER_HANDLE *buffer) {
    ON(stream, STREAM, announce_theirs(stream, memory, bytes, user, buffer));
}

GC_API DSAllocAndAnnounceBuffer(DS_HANDLE handle, size_t bytes, void *user, BUFFER_HANDLE *buffer) {
    ON(stream, STREAM, announce_ours(stream, bytes, user, buffer));
}

GC_API DSRevokeBuffer(DS_HANDLE handle, BUFFER_HANDLE buffer, void **memory, void **user) {
    ON(stream, STREAM, revoke(stream, buffer, memory, user));
}

GC_API DSQueueBuffer(DS_HANDLE handle, BUFFER_HANDLE buffer) { ON(stream, STREAM, enqueue(stream, buffer)); }

GC_API DSGetBufferID(DS_HANDLE handle, uint32_t index, BUFFER_HANDLE *buffer) {
    ON(stream, STREAM, get_buffer_id(stream, index, buffer));
}

GC_API DSGetBufferInfo(DS_HANDLE handle, BUFFER_HANDLE buffer, BUFFER_INFO_CMD command, INFO_DATATYPE *type,
                       void *value, size_t *size) {
    ON(stream, STREAM, get_info(stream, buffer, command, (struct answer){type, value, size}));
}

GC_API DSGetBufferChunkData(DS_HANDLE handle, BUFFER_HANDLE buffer, SINGLE_CHUNK_DATA *chunks, size_t *count) {
    ON(stream, STREAM, get_chunks(stream, buffer, chunks, count));
}
