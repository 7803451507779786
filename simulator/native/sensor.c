/* The sensor: one thread per running stream that waits for a trigger, exposes, reads out and delivers. */
#include "producer.h"

#include <signal.h>
#include <string.h>

#define IDLE_POLL_NS 5000000u /* how often a changed link, stall or trigger mode is looked at */
#define LINE_POLL_NS 500000u  /* how late a pulse on Line0 may be noticed */
#define CATCH_UP_NS 50000000u /* how far a free run may be behind its schedule before it starts a new one */
#define READOUT_NS_PER_PIXEL 1u
#define STALE_STEP_NS 1000u /* a stale frame comes from so soon after the one before it */

static void accept_triggers(struct device *device, uint32_t count) {
    bool accepted = count > 0 && !device->is_exposing && !device->trigger_pending;
    if (accepted) device->trigger_pending = true;
    atomic_fetch_add(&device->file.header->ignored_triggers, accepted ? count - 1 : count);
}

static void look_at_line(struct device *device) {
    const struct camera_settings *settings = &device->registers.settings;
    uint32_t pulses = atomic_load(&device->file.header->line0_pulses);
    if (device->registers.is_acquiring && settings->trigger_is_on && settings->trigger_source == TRIGGER_BY_LINE0)
        accept_triggers(device, pulses - device->pulses_seen);
    device->pulses_seen = pulses;
}

void sensor_software_trigger(struct device *device) {
    const struct camera_settings *settings = &device->registers.settings;
    bool is_armed = device->registers.is_acquiring && settings->trigger_is_on && device->stream != NULL &&
                    device->stream->is_running && settings->trigger_source == TRIGGER_BY_SOFTWARE;
    if (is_armed)
        accept_triggers(device, 1);
    else
        atomic_fetch_add(&device->file.header->ignored_triggers, 1);
}

void sensor_start(struct device *device) {
    struct camera_header *header = device->file.header;
    if (device->registers.is_acquiring) return;
    device->registers.is_acquiring = true;
    device->trigger_pending = false;
    device->pulses_seen = atomic_load(&header->line0_pulses);
    device->next_frame_id = atomic_load(&header->first_frame_id);
    device->previous = (struct camera_log_entry){0};
    device->next_start_ns = 0;
    atomic_fetch_add(&header->acquisitions, 1);
}

static bool may_go_on(const struct stream *stream) {
    return stream->is_running && !device_is_lost(stream->device);
}

/* False when the stream was stopped or the device was lost before the time came. */
static bool wait_until(const struct stream *stream, uint64_t deadline_ns) {
    for (uint64_t now = now_ns(); now < deadline_ns; now = now_ns()) {
        if (!may_go_on(stream)) return false;
        producer_wait_until(deadline_ns < now + IDLE_POLL_NS ? deadline_ns : now + IDLE_POLL_NS);
    }
    return may_go_on(stream);
}

/* Whether to expose now; if not, when to look again at the latest. */
static bool is_triggered(struct device *device, uint64_t *look_again_ns) {
    const struct camera_settings *settings = &device->registers.settings;
    uint64_t now = now_ns();
    *look_again_ns = now + IDLE_POLL_NS;
    look_at_line(device);
    if (!device->registers.is_acquiring) return false;
    if (settings->trigger_is_on) {
        if (settings->trigger_source == TRIGGER_BY_LINE0) *look_again_ns = now + LINE_POLL_NS;
        if (!device->trigger_pending) return false;
        device->trigger_pending = false;
    } else {
        device->trigger_pending = false;
        uint64_t period_ns = (uint64_t)(1e9 / settings->frame_rate_hz);
        if (now < device->next_start_ns) {
            if (device->next_start_ns < *look_again_ns) *look_again_ns = device->next_start_ns;
            return false;
        }
        /* A busy host is caught up with; exposures longer than the period must not pile up. */
        bool is_far_behind = now - device->next_start_ns > period_ns + CATCH_UP_NS;
        device->next_start_ns = (is_far_behind ? now : device->next_start_ns) + period_ns;
    }
    return atomic_load(&device->file.header->stall) == 0;
}

static bool is_every(uint64_t frame_id, uint32_t n) { return n != 0 && (frame_id + 1) % n == 0; }

static enum frame_fate choose_fate(const struct device *device, uint64_t frame_id) {
    const struct camera_header *header = device->file.header;
    bool has_previous = device->previous.sequence != 0;
    if (is_every(frame_id, atomic_load(&header->drop_every))) return FATE_DROPPED;
    if (is_every(frame_id, atomic_load(&header->incomplete_every))) return FATE_INCOMPLETE;
    if (is_every(frame_id, atomic_load(&header->torn_every))) return FATE_TORN;
    if (is_every(frame_id, atomic_load(&header->short_every))) return FATE_SHORT;
    if (has_previous && is_every(frame_id, atomic_load(&header->duplicate_every))) return FATE_DUPLICATE;
    if (has_previous && is_every(frame_id, atomic_load(&header->stale_every))) return FATE_STALE;
    return FATE_DELIVERED;
}

/* What the frame claims to be. */
static struct frame stamp(const struct device *device, const struct camera_log_entry *entry, enum frame_fate fate) {
    bool has_16_bits = atomic_load(&device->file.header->frame_id_bits) == 16;
    struct frame frame = {.exposure_id = entry->frame_id, .timestamp_ns = entry->timestamp_ns};
    if (fate == FATE_DUPLICATE) frame.exposure_id = device->previous.frame_id;
    if (fate == FATE_DUPLICATE) frame.timestamp_ns = device->previous.timestamp_ns;
    if (fate == FATE_STALE) frame.timestamp_ns = device->previous.timestamp_ns + STALE_STEP_NS;
    frame.id = has_16_bits ? frame.exposure_id & 0xFFFFu : frame.exposure_id;
    return frame;
}

/* Chunks come last, so that a frame of which a part is missing has none. */
static void append_chunks(struct buffer *buffer, const struct rendering *job, uint32_t chunks) {
    struct frame *frame = &buffer->frame;
    const union value values[CHUNK_COUNT] = {
        [CHUNK_FRAME_ID] = {.integer = (int64_t)frame->exposure_id},
        [CHUNK_TIMESTAMP] = {.integer = (int64_t)frame->timestamp_ns},
        [CHUNK_EXPOSURE_TIME] = {.real = job->exposure_us},
        [CHUNK_GAIN] = {.real = job->gain_db},
    };
    frame->chunks = chunks;
    for (uint32_t i = 0; i < CHUNK_COUNT; ++i) {
        if ((chunks >> i & 1u) == 0) continue;
        memcpy(buffer->memory + frame->filled_bytes, &values[i], sizeof values[i]);
        frame->filled_bytes += sizeof values[i];
    }
}

static void read_out(struct buffer *buffer, const struct rendering *job, uint32_t chunks, enum frame_fate fate) {
    const struct region *region = &job->region;
    size_t bytes = row_bytes(job->format, region->width_px);
    struct frame *frame = &buffer->frame;
    uint32_t rows = fate == FATE_INCOMPLETE ? region->height_px / 2 : region->height_px;
    frame->is_too_large = bytes * region->height_px + chunk_bytes(chunks) > buffer->bytes;
    if (frame->is_too_large) rows = 0;
    uint32_t end = fate == FATE_SHORT && rows > 0 ? rows - 1 : rows;
    uint32_t tear_from = fate == FATE_TORN ? rows / 4 : end, tear_to = fate == FATE_TORN ? rows / 2 : end;

    frame->pixel_format = job->format;
    frame->x_px = region->x_px;
    frame->y_px = region->y_px;
    frame->width_px = region->width_px;
    frame->height_px = region->height_px;
    frame->delivered_rows = rows;
    frame->filled_bytes = bytes * end;
    frame->is_incomplete = rows < region->height_px;
    frame->is_present = rows > 0;

    /* The buffer is the sensor's while its state says so, and the stream outlives its thread. */
    buffer->state = BUFFER_ACQUIRING;
    uint8_t *memory = buffer->memory;
    producer_unlock();
    render(job, memory, 0, tear_from);
    render(job, memory, tear_to, end);
    producer_lock();
    if (end == region->height_px) append_chunks(buffer, job, chunks);
}

/* The buffer for a new frame; which frame gives way when there is none is the client's choice. */
static struct buffer *take_buffer(struct stream *stream) {
    struct camera_header *header = stream->device->file.header;
    struct buffer *buffer = queue_pop(&stream->input);
    if (buffer != NULL || atomic_load(&header->buffer_handling) == OLDEST_FIRST) return buffer;
    buffer = queue_pop(&stream->output);
    if (buffer != NULL) atomic_fetch_add(&header->discarded, 1);
    return buffer;
}

static void deliver(struct stream *stream, struct buffer *buffer) {
    struct camera_header *header = stream->device->file.header;
    struct buffer *older;
    while (atomic_load(&header->buffer_handling) == NEWEST_ONLY && (older = queue_pop(&stream->output)) != NULL) {
        queue_push(&stream->input, older, BUFFER_QUEUED);
        atomic_fetch_add(&header->discarded, 1);
    }
    buffer->is_new = true;
    queue_push(&stream->output, buffer, BUFFER_DELIVERED);
    stream->delivered += 1;
    atomic_fetch_add(&header->delivered, 1);
    if (buffer->frame.is_incomplete) atomic_fetch_add(&header->incomplete, 1);
    producer_changed();
}

static void take_frame(struct stream *stream) {
    struct device *device = stream->device;
    struct camera_header *header = device->file.header;
    struct camera_log_entry entry = {.frame_id = device->next_frame_id++,
                                     .timestamp_ns = now_ns(),
                                     .image_index = camera_file_next_image(header),
                                     .acquisition = (uint32_t)atomic_load(&header->acquisitions)};
    enum frame_fate fate = choose_fate(device, entry.frame_id);
    bool shows_previous = fate == FATE_DUPLICATE || fate == FATE_STALE;
    uint32_t shown = shows_previous ? device->previous.image_index : entry.image_index;
    struct rendering job = {.source = device->file.images + shown * header->image_bytes,
                            .source_format = header->pixel_format,
                            .source_width_px = header->width,
                            .format = device->registers.settings.pixel_format,
                            .region = device->registers.settings.region,
                            .exposure_us = exposure_us(device),
                            .gain_db = device->registers.settings.gain_db};
    uint64_t exposed_ns = entry.timestamp_ns + (uint64_t)(job.exposure_us * 1e3);
    uint64_t pixels = (uint64_t)job.region.width_px * job.region.height_px;
    stream->started += 1;
    atomic_fetch_add(&header->exposed, 1);
    if (atomic_exchange(&header->crash, 0) != 0) raise(SIGSEGV);
    device->is_exposing = true;
    bool goes_on = wait_until(stream, exposed_ns);
    look_at_line(device);
    device->is_exposing = false;
    if (!goes_on) return;

    struct buffer *buffer = fate == FATE_DROPPED ? NULL : take_buffer(stream);
    if (buffer != NULL) {
        buffer->frame = stamp(device, &entry, fate);
        read_out(buffer, &job, chunks_enabled(&device->registers), fate);
    }
    if (!wait_until(stream, exposed_ns + pixels * READOUT_NS_PER_PIXEL)) {
        if (buffer != NULL) queue_push(&stream->input, buffer, BUFFER_QUEUED);
        return;
    }
    entry.fate = fate;
    if (fate == FATE_DROPPED) {
        atomic_fetch_add(&header->dropped, 1);
    } else if (buffer == NULL) {
        entry.fate = FATE_UNDERRUN;
        stream->underruns += 1;
        atomic_fetch_add(&header->underruns, 1);
    } else if (buffer->frame.is_incomplete) {
        entry.fate = FATE_INCOMPLETE; /* by itself, too, when the buffer is too small */
    }
    camera_file_log(header, entry);
    if (!shows_previous) device->previous = entry;
    device->previous.sequence = 1;
    if (buffer != NULL) deliver(stream, buffer);
}

void *sensor_run(void *argument) {
    struct stream *stream = argument;
    producer_lock();
    while (stream->is_running) {
        uint64_t look_again_ns = now_ns() + IDLE_POLL_NS;
        if (!device_is_lost(stream->device) && is_triggered(stream->device, &look_again_ns))
            take_frame(stream);
        else if (stream->is_running)
            producer_wait_until(look_again_ns);
    }
    producer_unlock();
    return NULL;
}
