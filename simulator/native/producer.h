/* The producer's modules and what they share: locks, one condition, handles, and the answers to queries.
 *
 * One client's call runs at a time, except that EventGetData lets others in while it waits. All state is behind a
 * second lock, which sensor threads hold, too, except while they render: a client that stops one can wait for its
 * end and still be alone. Whoever waits, waits for the one condition and looks again: nothing is destroyed under a
 * waiter. */
#ifndef REPLAY_PRODUCER_H
#define REPLAY_PRODUCER_H

#include "registers.h"

#include <pthread.h>
#include <stdbool.h>

#define PRODUCER_VENDOR "tfanet-edge"
#define PRODUCER_MODEL "Replay"
#define PRODUCER_VERSION "1.0.0"
#define PRODUCER_TLTYPE "Custom"
#define PRODUCER_ID "replay.cti"
#define INTERFACE_ID "replay"
#define STREAM_ID "stream0"

#define EVENT_ID_DEVICE_LOST 0x9001u /* as in local_device.xml */

#define MAX_CAMERAS 32
#define PATH_BYTES 1024

enum module_kind { ANY_MODULE, SYSTEM, INTERFACE, DEVICE, REMOTE_DEVICE, STREAM, BUFFER, EVENT };

struct event;

/* The first member of everything that has a handle. */
struct module {
    enum module_kind kind;
    void *handle;
    struct event *events;
};

struct event {
    struct module module;
    struct module *source;
    struct event *next;
    EVENT_TYPE type;
    uint64_t fired;
    uint32_t kills;
};

struct listing {
    char path[PATH_BYTES];
    char serial[CAMERA_NAME_BYTES], user_id[CAMERA_NAME_BYTES], vendor[CAMERA_NAME_BYTES], model[CAMERA_NAME_BYTES];
};

struct system {
    struct module module;
    bool is_open;
    struct interface *interface; /* NULL when closed */
};

struct interface {
    struct module module;
    struct system *system;
    struct listing listings[MAX_CAMERAS];
    uint32_t listed;
    struct device *devices[MAX_CAMERAS]; /* those open */
};

struct device {
    struct module module;
    struct module remote;
    struct interface *interface;
    struct listing listing;
    struct camera_file file;
    uint32_t link_epoch;
    struct registers registers;
    struct stream *stream; /* NULL when closed */
    _Atomic uint32_t event_notification; /* 1 = a loss is told by EVENT_MODULE */

    bool is_exposing;
    bool trigger_pending;
    uint32_t pulses_seen;
    uint64_t next_frame_id;
    struct camera_log_entry previous; /* the frame before; sequence is 0 when there is none */
    uint64_t next_start_ns; /* of a free-running exposure */
};

enum buffer_state { BUFFER_IDLE, BUFFER_QUEUED, BUFFER_ACQUIRING, BUFFER_DELIVERED };

struct frame {
    uint64_t id;          /* as the transport layer counts */
    uint64_t exposure_id; /* as the camera does */
    uint64_t timestamp_ns;
    size_t filled_bytes; /* chunks included */
    uint32_t chunks;     /* a bit for each enum chunk in the buffer */
    uint32_t pixel_format;
    uint32_t x_px, y_px, width_px, height_px, delivered_rows;
    bool is_present; /* a frame was written since the buffer was announced */
    bool is_incomplete;
    bool is_too_large;
};

struct buffer {
    struct module module;
    struct stream *stream;
    struct buffer *next_announced;
    struct buffer *next_queued;
    uint8_t *memory;
    size_t bytes;
    void *user;
    bool is_ours;
    bool is_new;
    enum buffer_state state;
    struct frame frame;
};

struct queue {
    struct buffer *first, *last;
    uint64_t length;
};

struct stream {
    struct module module;
    struct device *device;
    struct buffer *announced;
    struct queue input, output;
    bool is_running; /* false tells the sensor thread to end */
    pthread_t thread;
    uint64_t started, delivered, underruns;
};

/* errors.c: the last error of the calling thread. */
GC_ERROR fail(GC_ERROR code, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* lock.c */
GC_ERROR producer_enter(void); /* a client's call begins; fails before GCInitLib, but has begun even so */
void producer_leave(void);
void producer_lock(void); /* the state alone */
void producer_unlock(void);
void producer_wait_until(uint64_t deadline_ns);           /* sensors: until something changed or the deadline */
void producer_wait_as_client_until(uint64_t deadline_ns); /* other clients may change anything meanwhile */
void producer_changed(void);
void producer_initialize(bool initialized);
uint64_t now_ns(void);

/* The body of an exported function: the call under the lock. */
#define LOCKED(call)                                 \
    do {                                             \
        GC_ERROR code_ = producer_enter();           \
        if (code_ == GC_ERR_SUCCESS) code_ = (call); \
        producer_leave();                            \
        return code_;                                \
    } while (0)

/* The same for functions whose `handle` must be that of a module `what` of a kind: `what` is then the module. */
#define ON(what, kind, call)                                                                                       \
    struct what *what;                                                                                             \
    LOCKED((what = (struct what *)handle_resolve(handle, kind)) != NULL ? (call) : GC_ERR_INVALID_HANDLE)

/* handles.c: handles never point to memory, so that a stale one is an error and not a crash. */
bool handle_create(struct module *module, enum module_kind kind);
struct module *handle_resolve(void *handle, enum module_kind kind); /* NULL with the last error set */
void handle_release(struct module *module);

/* description.c */
struct port {
    struct device *remote; /* NULL for the host's own modules */
    const char *id;
    const char *module;
    const char *name;
    const char *file;
    const char *xml, *xml_end;
    _Atomic uint32_t *setting; /* the one number that the module lets its client choose; NULL for none */
    uint32_t setting_limit;
    bool is_locked;
};
GC_ERROR port_describe(void *handle, struct port *port);

/* answers.c: the standard's way to answer a query: type, size, then value. */
struct answer {
    INFO_DATATYPE *type;
    void *buffer;
    size_t *size;
};
GC_ERROR answer_bytes(struct answer answer, INFO_DATATYPE type, const void *value, size_t bytes);
GC_ERROR answer_string(struct answer answer, const char *text);
GC_ERROR answer_bool8(struct answer answer, bool value);
GC_ERROR answer_int32(struct answer answer, int32_t value);
GC_ERROR answer_uint32(struct answer answer, uint32_t value);
GC_ERROR answer_uint64(struct answer answer, uint64_t value);
GC_ERROR answer_size(struct answer answer, size_t value);
GC_ERROR answer_pointer(struct answer answer, void *value);
GC_ERROR give_handle(void **target, void *handle);
GC_ERROR give_count(uint32_t *target, uint32_t count);

/* event.c */
void events_release(struct module *source);

/* buffer.c */
void queue_push(struct queue *queue, struct buffer *buffer, enum buffer_state state);
struct buffer *queue_pop(struct queue *queue);
struct buffer *buffer_resolve(const struct stream *stream, void *handle);
void buffer_release(struct buffer *buffer);

/* Closing a module closes what is under it. */
void system_close(void);
void interface_close(struct interface *interface);
void device_close(struct device *device);
void stream_close(struct stream *stream);

/* interface.c */
GC_ERROR interface_open(struct system *system, IF_HANDLE *handle);
GC_ERROR interface_answer(INTERFACE_INFO_CMD command, struct answer answer);

/* device.c */
GC_ERROR device_open(struct interface *interface, const struct listing *listing, DEV_HANDLE *handle);
GC_ERROR device_answer(const struct listing *listing, bool is_open, DEVICE_INFO_CMD command, struct answer answer);
bool device_is_lost(const struct device *device);
GC_ERROR device_check(const struct device *device); /* GC_ERR_IO when it is lost */

/* stream.c */
GC_ERROR stream_open(struct device *device, DS_HANDLE *handle);

/* sensor.c */
void *sensor_run(void *stream);
void sensor_start(struct device *device);
void sensor_software_trigger(struct device *device);

#endif
