/* The device module: a camera file that this process has to itself. */
#include "producer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool device_is_lost(const struct device *device) {
    const struct camera_header *header = device->file.header;
    return atomic_load(&header->link) != LINK_ONLINE || atomic_load(&header->link_epoch) != device->link_epoch;
}

GC_ERROR device_check(const struct device *device) {
    if (!device_is_lost(device)) return GC_ERR_SUCCESS;
    return fail(GC_ERR_IO, "device '%s' does not answer", device->listing.serial);
}

static GC_ERROR open_file(struct device *device) {
    const char *serial = device->listing.serial;
    if (!camera_file_open(&device->file, device->listing.path))
        return fail(GC_ERR_IO, "device '%s' does not answer", serial);
    struct camera_header *header = device->file.header;
    device->link_epoch = atomic_load(&header->link_epoch);
    GC_ERROR code = device_check(device);
    if (code == GC_ERR_SUCCESS && !camera_file_claim(&device->file))
        code = fail(GC_ERR_ACCESS_DENIED, "device '%s' is in use by another process", serial);
    if (code != GC_ERR_SUCCESS) camera_file_close(&device->file);
    return code;
}

static GC_ERROR create_handles(struct device *device) {
    if (!handle_create(&device->module, DEVICE)) return GC_ERR_RESOURCE_EXHAUSTED;
    if (handle_create(&device->remote, REMOTE_DEVICE)) return GC_ERR_SUCCESS;
    handle_release(&device->module);
    return GC_ERR_RESOURCE_EXHAUSTED;
}

static struct device **free_place(struct interface *interface) {
    for (uint32_t i = 0; i < MAX_CAMERAS; ++i)
        if (interface->devices[i] == NULL) return &interface->devices[i];
    fail(GC_ERR_RESOURCE_EXHAUSTED, "more than %d open devices", MAX_CAMERAS);
    return NULL;
}

GC_ERROR device_open(struct interface *interface, const struct listing *listing, DEV_HANDLE *handle) {
    struct device **place = free_place(interface);
    if (place == NULL) return GC_ERR_RESOURCE_EXHAUSTED;
    struct device *device = calloc(1, sizeof *device);
    if (device == NULL) return fail(GC_ERR_OUT_OF_MEMORY, "no memory for the device");
    device->interface = interface;
    device->listing = *listing;
    GC_ERROR code = open_file(device);
    if (code == GC_ERR_SUCCESS) {
        code = create_handles(device);
        if (code != GC_ERR_SUCCESS) camera_file_close(&device->file);
    }
    if (code != GC_ERR_SUCCESS) {
        free(device);
        return code;
    }
    registers_reset(device);
    *place = device;
    *handle = device->module.handle;
    return GC_ERR_SUCCESS;
}

void device_close(struct device *device) {
    if (device->stream != NULL) stream_close(device->stream);
    for (uint32_t i = 0; i < MAX_CAMERAS; ++i)
        if (device->interface->devices[i] == device) device->interface->devices[i] = NULL;
    events_release(&device->module);
    events_release(&device->remote);
    handle_release(&device->module);
    handle_release(&device->remote);
    camera_file_close(&device->file);
    free(device);
}

GC_ERROR device_answer(const struct listing *listing, bool is_open, DEVICE_INFO_CMD command, struct answer answer) {
    char display_name[4 * CAMERA_NAME_BYTES];
    switch (command) {
    case DEVICE_INFO_ID:
    case DEVICE_INFO_SERIAL_NUMBER:
        return answer_string(answer, listing->serial);
    case DEVICE_INFO_VENDOR:
        return answer_string(answer, listing->vendor);
    case DEVICE_INFO_MODEL:
        return answer_string(answer, listing->model);
    case DEVICE_INFO_TLTYPE:
        return answer_string(answer, PRODUCER_TLTYPE);
    case DEVICE_INFO_DISPLAYNAME:
        snprintf(display_name, sizeof display_name, "%s %s (%s)", listing->vendor, listing->model, listing->serial);
        return answer_string(answer, display_name);
    case DEVICE_INFO_ACCESS_STATUS:
        return answer_int32(answer, is_open ? DEVICE_ACCESS_STATUS_OPEN_READWRITE : DEVICE_ACCESS_STATUS_READWRITE);
    case DEVICE_INFO_USER_DEFINED_NAME:
        return answer_string(answer, listing->user_id);
    case DEVICE_INFO_VERSION:
        return answer_string(answer, PRODUCER_VERSION);
    case DEVICE_INFO_TIMESTAMP_FREQUENCY:
        return answer_uint64(answer, 1000000000u);
    default:
        return fail(GC_ERR_NOT_IMPLEMENTED, "DEVICE_INFO command %d", (int)command);
    }
}

static GC_ERROR get_stream_id(uint32_t index, struct answer answer) {
    if (index != 0) return fail(GC_ERR_INVALID_INDEX, "stream %u of 1", index);
    return answer_string(answer, STREAM_ID);
}

static GC_ERROR open_stream(struct device *device, const char *id, DS_HANDLE *stream) {
    if (id == NULL || strcmp(id, STREAM_ID) != 0)
        return fail(GC_ERR_INVALID_ID, "no stream '%s'", id != NULL ? id : "(NULL)");
    if (stream == NULL) return fail(GC_ERR_INVALID_PARAMETER, "the handle must not be NULL");
    if (device->stream != NULL) return fail(GC_ERR_RESOURCE_IN_USE, "the stream is open already");
    return stream_open(device, stream);
}

GC_API DevClose(DEV_HANDLE handle) { ON(device, DEVICE, (device_close(device), GC_ERR_SUCCESS)); }

GC_API DevGetInfo(DEV_HANDLE handle, DEVICE_INFO_CMD command, INFO_DATATYPE *type, void *buffer, size_t *size) {
    ON(device, DEVICE, device_answer(&device->listing, true, command, (struct answer){type, buffer, size}));
}

GC_API DevGetParentIF(DEV_HANDLE handle, IF_HANDLE *interface) {
    ON(device, DEVICE, give_handle(interface, device->interface->module.handle));
}

GC_API DevGetPort(DEV_HANDLE handle, PORT_HANDLE *port) {
    ON(device, DEVICE, give_handle(port, device->remote.handle));
}

GC_API DevGetNumDataStreams(DEV_HANDLE handle, uint32_t *count) { ON(device, DEVICE, give_count(count, 1)); }

GC_API DevGetDataStreamID(DEV_HANDLE handle, uint32_t index, char *id, size_t *size) {
    ON(device, DEVICE, get_stream_id(index, (struct answer){NULL, id, size}));
}

GC_API DevOpenDataStream(DEV_HANDLE handle, const char *id, DS_HANDLE *stream) {
    ON(device, DEVICE, open_stream(device, id, stream));
}
