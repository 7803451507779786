/* Walks through a producer's whole life, twice over, and out of order where clients are known to be.
 * Usage: replay_lifecycle PRODUCER CAMERA_FILE with REPLAY_CAMERAS naming a directory with cameras "A" (the file)
 * and "B". Prints "done", or the line of the first surprise. */
#include "camera_file.h"
#include "gentl.h"
#include "registers.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define FUNCTIONS(X)                                                                                                 \
    X(GCInitLib) X(GCCloseLib) X(GCGetLastError) X(GCReadPort) X(GCWritePort) X(GCRegisterEvent)                     \
    X(GCUnregisterEvent) X(GCGetNumPortURLs) X(GCGetPortURL) X(EventGetData) X(EventFlush) X(EventKill) X(TLOpen)    \
    X(TLClose) X(TLOpenInterface) X(TLUpdateInterfaceList) X(IFClose) X(IFUpdateDeviceList) X(IFGetNumDevices)       \
    X(IFGetDeviceID) X(IFOpenDevice) X(DevClose) X(DevGetPort) X(DevOpenDataStream) X(DSClose) X(DSAnnounceBuffer)   \
    X(DSAllocAndAnnounceBuffer) X(DSQueueBuffer) X(DSFlushQueue) X(DSRevokeBuffer) X(DSStartAcquisition)             \
    X(DSStopAcquisition) X(DSGetBufferInfo) X(DSGetBufferChunkData) X(DSGetBufferID) X(DSGetNumBufferParts)          \
    X(EventGetDataInfo)

static struct {
#define MEMBER(name) __typeof__(name) *name;
    FUNCTIONS(MEMBER)
} gentl;

#define EXPECT(expected, call)                                                                         \
    do {                                                                                               \
        GC_ERROR code_ = (call);                                                                       \
        if (code_ != (expected)) {                                                                     \
            printf("line %d: %s gave %d instead of %d\n", __LINE__, #call, (int)code_, (int)expected); \
            exit(1);                                                                                   \
        }                                                                                              \
    } while (0)
#define OK(call) EXPECT(GC_ERR_SUCCESS, call)
#define CHECK(condition) EXPECT(1, (condition) ? 1 : 0)

#define BUFFERS 4
#define SETTING_ADDRESS 0x100u /* of the host's modules: EventNotification, StreamBufferHandlingMode */

struct session {
    DEV_HANDLE device;
    PORT_HANDLE port;
    DS_HANDLE stream;
    EVENT_HANDLE event;
    BUFFER_HANDLE buffers[BUFFERS];
    void *memory;
};

static GC_ERROR write_number(const struct session *session, enum register_index index, int64_t value) {
    size_t size = sizeof value;
    return gentl.GCWritePort(session->port, NUMBERS_ADDRESS + 8u * (unsigned)index, &value, &size);
}

static int64_t read_number(const struct session *session, enum register_index index) {
    int64_t value = 0;
    size_t size = sizeof value;
    OK(gentl.GCReadPort(session->port, NUMBERS_ADDRESS + 8u * (unsigned)index, &value, &size));
    return value;
}

static void write_real(const struct session *session, enum register_index index, double value) {
    size_t size = sizeof value;
    OK(gentl.GCWritePort(session->port, NUMBERS_ADDRESS + 8u * (unsigned)index, &value, &size));
}

static GC_ERROR write_setting(PORT_HANDLE module, uint32_t value) {
    size_t size = sizeof value;
    return gentl.GCWritePort(module, SETTING_ADDRESS, &value, &size);
}

static void enable_chunks(const struct session *session) {
    OK(write_number(session, REGISTER_CHUNK_MODE_ACTIVE, 1));
    for (int chunk = 0; chunk < CHUNK_COUNT; ++chunk) {
        OK(write_number(session, REGISTER_CHUNK_SELECTOR, chunk));
        OK(write_number(session, REGISTER_CHUNK_ENABLE, 1));
    }
    EXPECT(GC_ERR_INVALID_VALUE, write_number(session, REGISTER_CHUNK_SELECTOR, CHUNK_COUNT));
}

/* Those of a complete frame lie one behind the other at the end of what was filled. */
static void check_chunks(const struct session *session, BUFFER_HANDLE buffer, bool is_complete) {
    SINGLE_CHUNK_DATA chunks[CHUNK_COUNT];
    size_t count = 1, filled = 0, size = sizeof filled;
    OK(gentl.DSGetBufferInfo(session->stream, buffer, BUFFER_INFO_SIZE_FILLED, NULL, &filled, &size));
    OK(gentl.DSGetBufferChunkData(session->stream, buffer, NULL, &count));
    CHECK(count == CHUNK_COUNT || count == 0);
    if (count == 0) return;
    CHECK(is_complete);
    count = 1;
    EXPECT(GC_ERR_BUFFER_TOO_SMALL, gentl.DSGetBufferChunkData(session->stream, buffer, chunks, &count));
    count = CHUNK_COUNT;
    OK(gentl.DSGetBufferChunkData(session->stream, buffer, chunks, &count));
    for (size_t i = 0; i < count; ++i) CHECK((size_t)chunks[i].ChunkOffset == filled - (count - i) * sizeof(union value));
}

/* The pixel format is the camera's first one when `format` is 0. */
static struct session open_with_format(IF_HANDLE interface, const char *serial, int64_t format) {
    struct session session = {0};
    DEV_HANDLE second;
    OK(gentl.IFOpenDevice(interface, serial, 4, &session.device));
    EXPECT(GC_ERR_RESOURCE_IN_USE, gentl.IFOpenDevice(interface, serial, 4, &second));
    OK(gentl.DevGetPort(session.device, &session.port));
    OK(gentl.DevOpenDataStream(session.device, "stream0", &session.stream));
    OK(gentl.GCRegisterEvent(session.stream, EVENT_NEW_BUFFER, &session.event));
    if (format != 0) OK(write_number(&session, REGISTER_PIXEL_FORMAT, format));
    enable_chunks(&session);
    size_t bytes = (size_t)read_number(&session, REGISTER_PAYLOAD_SIZE);
    session.memory = malloc(bytes * (BUFFERS - 2));
    CHECK(session.memory != NULL);
    for (size_t i = 0; i < BUFFERS - 2; ++i)
        OK(gentl.DSAnnounceBuffer(session.stream, (char *)session.memory + i * bytes, bytes, NULL,
                                  &session.buffers[i]));
    OK(gentl.DSAllocAndAnnounceBuffer(session.stream, bytes, NULL, &session.buffers[BUFFERS - 2]));
    OK(gentl.DSAllocAndAnnounceBuffer(session.stream, bytes / 2, NULL, &session.buffers[BUFFERS - 1])); /* too small */
    for (size_t i = 0; i < BUFFERS; ++i) OK(gentl.DSQueueBuffer(session.stream, session.buffers[i]));
    EXPECT(GC_ERR_RESOURCE_IN_USE, gentl.DSQueueBuffer(session.stream, session.buffers[0]));
    write_real(&session, REGISTER_EXPOSURE_TIME, 100.0);
    write_real(&session, REGISTER_FRAME_RATE, 1000.0);
    return session;
}

static struct session open_session(IF_HANDLE interface, const char *serial) {
    return open_with_format(interface, serial, 0);
}

static void start(const struct session *session) {
    OK(gentl.DSStartAcquisition(session->stream, 0, GENTL_INFINITE));
    EXPECT(GC_ERR_RESOURCE_IN_USE, gentl.DSStartAcquisition(session->stream, 0, GENTL_INFINITE));
    OK(write_number(session, REGISTER_ACQUISITION_START, 1));
    EXPECT(GC_ERR_ACCESS_DENIED, write_number(session, REGISTER_WIDTH, 8));
    EXPECT(GC_ERR_ACCESS_DENIED, write_number(session, REGISTER_CHUNK_ENABLE, 0));
    EXPECT(GC_ERR_ACCESS_DENIED, write_setting(session->stream, OLDEST_FIRST));
}

static GC_ERROR wait_for(EVENT_HANDLE event, BUFFER_HANDLE *buffer, uint64_t timeout_ms) {
    EVENT_NEW_BUFFER_DATA data;
    size_t size = sizeof data;
    GC_ERROR code = gentl.EventGetData(event, &data, &size, timeout_ms);
    if (code == GC_ERR_SUCCESS) *buffer = data.BufferHandle;
    return code;
}

static void take_frames(const struct session *session, int frames) {
    uint64_t last_timestamp = 0;
    for (int i = 0; i < frames; ++i) {
        BUFFER_HANDLE buffer;
        OK(wait_for(session->event, &buffer, 2000));
        uint64_t timestamp = 0;
        bool8_t incomplete = 2;
        size_t time_bytes = sizeof timestamp, flag_bytes = sizeof incomplete;
        OK(gentl.DSGetBufferInfo(session->stream, buffer, BUFFER_INFO_TIMESTAMP_NS, NULL, &timestamp, &time_bytes));
        OK(gentl.DSGetBufferInfo(session->stream, buffer, BUFFER_INFO_IS_INCOMPLETE, NULL, &incomplete, &flag_bytes));
        CHECK(timestamp > last_timestamp);
        CHECK(incomplete == (buffer == session->buffers[BUFFERS - 1]));
        check_chunks(session, buffer, !incomplete);
        last_timestamp = timestamp;
        OK(gentl.DSQueueBuffer(session->stream, buffer));
    }
}

/* The order that clients should keep. */
static void close_in_order(struct session *session) {
    OK(write_number(session, REGISTER_ACQUISITION_STOP, 1));
    OK(gentl.DSStopAcquisition(session->stream, 1));
    EXPECT(GC_ERR_RESOURCE_IN_USE, gentl.DSStopAcquisition(session->stream, 1));
    OK(gentl.DSFlushQueue(session->stream, ACQ_QUEUE_ALL_DISCARD));
    OK(gentl.EventFlush(session->event));
    for (size_t i = 0; i < BUFFERS; ++i) OK(gentl.DSRevokeBuffer(session->stream, session->buffers[i], NULL, NULL));
    EXPECT(GC_ERR_INVALID_HANDLE, gentl.DSRevokeBuffer(session->stream, session->buffers[0], NULL, NULL));
    OK(gentl.GCUnregisterEvent(session->stream, EVENT_NEW_BUFFER));
    OK(gentl.DSClose(session->stream));
    OK(gentl.DevClose(session->device));
}

static void expect_stale(const struct session *session) {
    size_t size = 8;
    int64_t value;
    BUFFER_HANDLE buffer;
    EXPECT(GC_ERR_INVALID_HANDLE, gentl.DevClose(session->device));
    EXPECT(GC_ERR_INVALID_HANDLE, gentl.DSClose(session->stream));
    EXPECT(GC_ERR_INVALID_HANDLE, gentl.GCReadPort(session->port, NUMBERS_ADDRESS, &value, &size));
    EXPECT(GC_ERR_INVALID_HANDLE, wait_for(session->event, &buffer, 0));
}

static GC_ERROR waited;

static void *wait_long(void *event) {
    BUFFER_HANDLE buffer;
    waited = wait_for(event, &buffer, GENTL_INFINITE);
    return NULL;
}

static void expect_wait_to_abort(IF_HANDLE interface, bool by_closing) {
    struct session session = open_session(interface, "B");
    pthread_t waiter;
    pthread_create(&waiter, NULL, wait_long, session.event);
    nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
    if (by_closing)
        OK(gentl.DSClose(session.stream));
    else
        OK(gentl.EventKill(session.event));
    pthread_join(waiter, NULL);
    EXPECT(GC_ERR_ABORT, waited);
    OK(gentl.DevClose(session.device));
    free(session.memory);
}

static void *close_it(void *device) {
    waited = gentl.DevClose(device);
    return NULL;
}

static void close_at_once(IF_HANDLE interface) {
    struct session session = open_session(interface, "B");
    start(&session);
    pthread_t closer;
    pthread_create(&closer, NULL, close_it, session.device);
    GC_ERROR code = gentl.DevClose(session.device);
    pthread_join(closer, NULL);
    CHECK((code == GC_ERR_SUCCESS && waited == GC_ERR_INVALID_HANDLE) ||
          (waited == GC_ERR_SUCCESS && code == GC_ERR_INVALID_HANDLE));
    free(session.memory);
}

static struct camera_header *map_camera(const char *path) {
    int descriptor = open(path, O_RDWR);
    CHECK(descriptor >= 0);
    void *mapping = mmap(NULL, sizeof(struct camera_header), PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
    CHECK(mapping != MAP_FAILED);
    close(descriptor);
    return mapping;
}

static uint32_t count_devices(IF_HANDLE interface) {
    uint32_t count = 0;
    OK(gentl.IFUpdateDeviceList(interface, NULL, 100));
    OK(gentl.IFGetNumDevices(interface, &count));
    return count;
}

/* A row of camera "A" does not fill the last group of the packed formats. */
static void take_every_format(IF_HANDLE interface, struct camera_header *camera) {
    static const int64_t formats[] = {0x01080001, 0x01100003, 0x010A0046, 0x010C0004, 0x01100005, 0x010C0047,
                                      0x010C0006, 0x01100007, 0x01080009, 0x01100011, 0x010C0059, 0x010C002B,
                                      0x02180014, 0x02180015, 0x02200016, 0x0210003B};
    atomic_store(&camera->torn_every, 2);
    atomic_store(&camera->short_every, 3);
    for (size_t i = 0; i < sizeof formats / sizeof formats[0]; ++i) {
        struct session session = open_with_format(interface, "A", formats[i]);
        CHECK(read_number(&session, REGISTER_PIXEL_FORMAT) == formats[i]);
        EXPECT(GC_ERR_INVALID_VALUE, write_number(&session, REGISTER_PIXEL_FORMAT, 0x01080008)); /* BayerGR8 */
        start(&session);
        take_frames(&session, 6);
        close_in_order(&session);
        free(session.memory);
    }
    atomic_store(&camera->torn_every, 0);
    atomic_store(&camera->short_every, 0);
}

static void expect_notice(EVENT_HANDLE event, bool is_there) {
    unsigned char data[64];
    size_t size = sizeof data, id_size = sizeof(uint64_t);
    uint64_t id = 0;
    EXPECT(is_there ? GC_ERR_SUCCESS : GC_ERR_TIMEOUT, gentl.EventGetData(event, data, &size, 0));
    if (!is_there) return;
    OK(gentl.EventGetDataInfo(event, data, size, EVENT_DATA_NUMID, NULL, &id, &id_size));
    CHECK(id == 0x9001);
}

static void lose_while_streaming(IF_HANDLE interface, struct camera_header *camera, enum camera_link how) {
    struct session session = open_session(interface, "A");
    EVENT_HANDLE loss;
    OK(gentl.GCRegisterEvent(session.device, EVENT_MODULE, &loss));
    OK(write_setting(session.device, 1));
    start(&session);
    take_frames(&session, 3);
    expect_notice(loss, false);
    atomic_fetch_add(&camera->link_epoch, 1);
    atomic_store(&camera->link, how);
    BUFFER_HANDLE buffer;
    GC_ERROR code;
    while ((code = wait_for(session.event, &buffer, 50)) == GC_ERR_SUCCESS) continue;
    EXPECT(how == LINK_OFFLINE ? GC_ERR_ABORT : GC_ERR_TIMEOUT, code);
    expect_notice(loss, how != LINK_SILENT);
    expect_notice(loss, false);
    EXPECT(GC_ERR_IO, write_number(&session, REGISTER_ACQUISITION_STOP, 1));
    CHECK(count_devices(interface) == 1);
    DEV_HANDLE device;
    EXPECT(GC_ERR_INVALID_ID, gentl.IFOpenDevice(interface, "A", 4, &device));
    atomic_store(&camera->link, LINK_ONLINE);
    EXPECT(GC_ERR_IO, write_number(&session, REGISTER_ACQUISITION_STOP, 1)); /* the old connection stays lost */
    CHECK(count_devices(interface) == 2);
    OK(gentl.DevClose(session.device)); /* closes the running stream, too */
    expect_stale(&session);
    free(session.memory);
}

static void live_once(struct camera_header *camera, bool close_all) {
    TL_HANDLE system, second;
    IF_HANDLE interface;
    EXPECT(GC_ERR_NOT_INITIALIZED, gentl.TLOpen(&system));
    OK(gentl.GCInitLib());
    EXPECT(GC_ERR_RESOURCE_IN_USE, gentl.GCInitLib());
    OK(gentl.TLOpen(&system));
    EXPECT(GC_ERR_RESOURCE_IN_USE, gentl.TLOpen(&second));
    OK(gentl.TLUpdateInterfaceList(system, NULL, 100));
    OK(gentl.TLOpenInterface(system, "replay", &interface));
    CHECK(count_devices(interface) == 2);
    for (int round = 0; round < 3; ++round) {
        struct session first = open_session(interface, "A"), other = open_session(interface, "B");
        EXPECT(GC_ERR_INVALID_VALUE, write_setting(first.stream, NEWEST_ONLY + 1));
        OK(write_setting(first.stream, (uint32_t)round));
        start(&first);
        start(&other);
        take_frames(&first, 12);
        take_frames(&other, 12);
        uint32_t parts;
        EXPECT(GC_ERR_NOT_IMPLEMENTED, gentl.DSGetNumBufferParts(first.stream, first.buffers[0], &parts));
        EXPECT(GC_ERR_INVALID_HANDLE, gentl.DSQueueBuffer(first.stream, other.buffers[0]));
        close_in_order(&first);
        expect_stale(&first);
        OK(gentl.DevClose(other.device));
        expect_stale(&other);
        free(first.memory);
        free(other.memory);
    }
    take_every_format(interface, camera);
    lose_while_streaming(interface, camera, LINK_OFFLINE);
    lose_while_streaming(interface, camera, LINK_SILENT);
    lose_while_streaming(interface, camera, LINK_LOST);
    expect_wait_to_abort(interface, false);
    expect_wait_to_abort(interface, true);
    close_at_once(interface);
    struct session last = open_session(interface, "A");
    start(&last);
    take_frames(&last, 2);
    if (!close_all) OK(gentl.TLClose(system));
    OK(gentl.GCCloseLib());
    free(last.memory);
    EXPECT(GC_ERR_NOT_INITIALIZED, gentl.TLClose(system));
}

int main(int count, char **arguments) {
    CHECK(count == 3);
    void *library = dlopen(arguments[1], RTLD_NOW | RTLD_LOCAL);
    if (library == NULL) {
        printf("%s\n", dlerror());
        return 1;
    }
#define LOAD(name) \
    *(void **)&gentl.name = dlsym(library, #name); \
    CHECK(gentl.name != NULL);
    FUNCTIONS(LOAD)
    struct camera_header *camera = map_camera(arguments[2]);
    live_once(camera, false);
    live_once(camera, true);
    munmap(camera, sizeof *camera);
    memset(&gentl, 0, sizeof gentl);
    dlclose(library); /* so that nothing that its variables point to counts as still in use */
    puts("done");
    return 0;
}
