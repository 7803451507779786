/* The interface module: the cameras are the *.cam files of the directory that REPLAY_CAMERAS names. */
#include "producer.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

GC_ERROR interface_open(struct system *system, IF_HANDLE *handle) {
    if (system->interface != NULL) return fail(GC_ERR_RESOURCE_IN_USE, "the interface is open already");
    struct interface *interface = calloc(1, sizeof *interface);
    if (interface == NULL) return fail(GC_ERR_OUT_OF_MEMORY, "no memory for the interface");
    if (!handle_create(&interface->module, INTERFACE)) {
        free(interface);
        return GC_ERR_RESOURCE_EXHAUSTED;
    }
    interface->system = system;
    system->interface = interface;
    *handle = interface->module.handle;
    return GC_ERR_SUCCESS;
}

void interface_close(struct interface *interface) {
    for (uint32_t i = 0; i < MAX_CAMERAS; ++i)
        if (interface->devices[i] != NULL) device_close(interface->devices[i]);
    events_release(&interface->module);
    handle_release(&interface->module);
    interface->system->interface = NULL;
    free(interface);
}

GC_ERROR interface_answer(INTERFACE_INFO_CMD command, struct answer answer) {
    switch (command) {
    case INTERFACE_INFO_ID:
        return answer_string(answer, INTERFACE_ID);
    case INTERFACE_INFO_DISPLAYNAME:
        return answer_string(answer, "Replayed cameras");
    case INTERFACE_INFO_TLTYPE:
        return answer_string(answer, PRODUCER_TLTYPE);
    default:
        return fail(GC_ERR_NOT_IMPLEMENTED, "INTERFACE_INFO command %d", (int)command);
    }
}

static bool read_listing(struct listing *listing, const char *directory, const char *name) {
    size_t length = strlen(name);
    if (name[0] == '.' || length < 5 || strcmp(name + length - 4, ".cam") != 0) return false;
    int written = snprintf(listing->path, sizeof listing->path, "%s/%s", directory, name);
    if (written < 0 || (size_t)written >= sizeof listing->path) return false;

    struct camera_file file;
    if (!camera_file_open(&file, listing->path)) return false;
    bool online = atomic_load(&file.header->link) == LINK_ONLINE;
    memcpy(listing->serial, file.header->serial, CAMERA_NAME_BYTES);
    memcpy(listing->user_id, file.header->user_id, CAMERA_NAME_BYTES);
    memcpy(listing->vendor, file.header->vendor, CAMERA_NAME_BYTES);
    memcpy(listing->model, file.header->model, CAMERA_NAME_BYTES);
    camera_file_close(&file);
    return online;
}

static int by_serial(const void *left, const void *right) {
    return strcmp(((const struct listing *)left)->serial, ((const struct listing *)right)->serial);
}

static uint32_t list_cameras(struct listing listings[MAX_CAMERAS]) {
    const char *directory = getenv("REPLAY_CAMERAS");
    DIR *entries = directory != NULL ? opendir(directory) : NULL;
    if (entries == NULL) return 0;
    uint32_t listed = 0;
    for (struct dirent *entry; listed < MAX_CAMERAS && (entry = readdir(entries)) != NULL;) {
        memset(&listings[listed], 0, sizeof listings[listed]);
        if (read_listing(&listings[listed], directory, entry->d_name)) listed += 1;
    }
    closedir(entries);
    qsort(listings, listed, sizeof listings[0], by_serial);
    return listed;
}

static GC_ERROR update_devices(struct interface *interface, bool8_t *changed) {
    struct listing *found = calloc(MAX_CAMERAS, sizeof *found);
    if (found == NULL) return fail(GC_ERR_OUT_OF_MEMORY, "no memory for the device list");
    uint32_t listed = list_cameras(found);
    if (changed != NULL)
        *changed = listed != interface->listed || memcmp(found, interface->listings, listed * sizeof *found) != 0;
    memcpy(interface->listings, found, sizeof interface->listings);
    interface->listed = listed;
    free(found);
    return GC_ERR_SUCCESS;
}

static const struct listing *find_listing(const struct interface *interface, const char *id) {
    for (uint32_t i = 0; id != NULL && i < interface->listed; ++i)
        if (strcmp(interface->listings[i].serial, id) == 0) return &interface->listings[i];
    fail(GC_ERR_INVALID_ID, "no device '%s' in the list", id != NULL ? id : "(NULL)");
    return NULL;
}

static bool is_device_open(const struct interface *interface, const char *serial) {
    for (uint32_t i = 0; i < MAX_CAMERAS; ++i)
        if (interface->devices[i] != NULL && strcmp(interface->devices[i]->listing.serial, serial) == 0) return true;
    return false;
}

static GC_ERROR get_device_id(const struct interface *interface, uint32_t index, struct answer answer) {
    if (index >= interface->listed) return fail(GC_ERR_INVALID_INDEX, "device %u of %u", index, interface->listed);
    return answer_string(answer, interface->listings[index].serial);
}

static GC_ERROR get_device_info(const struct interface *interface, const char *id, DEVICE_INFO_CMD command,
                                struct answer answer) {
    const struct listing *listing = find_listing(interface, id);
    if (listing == NULL) return GC_ERR_INVALID_ID;
    return device_answer(listing, is_device_open(interface, id), command, answer);
}

static GC_ERROR open_device(struct interface *interface, const char *id, DEV_HANDLE *device) {
    const struct listing *listing = find_listing(interface, id);
    if (listing == NULL) return GC_ERR_INVALID_ID;
    if (device == NULL) return fail(GC_ERR_INVALID_PARAMETER, "the handle must not be NULL");
    if (is_device_open(interface, id)) return fail(GC_ERR_RESOURCE_IN_USE, "device '%s' is open already", id);
    return device_open(interface, listing, device);
}

GC_API IFClose(IF_HANDLE handle) { ON(interface, INTERFACE, (interface_close(interface), GC_ERR_SUCCESS)); }

GC_API IFGetParentTL(IF_HANDLE handle, TL_HANDLE *system) {
    ON(interface, INTERFACE, give_handle(system, interface->system->module.handle));
}

GC_API IFGetInfo(IF_HANDLE handle, INTERFACE_INFO_CMD command, INFO_DATATYPE *type, void *buffer, size_t *size) {
    ON(interface, INTERFACE, interface_answer(command, (struct answer){type, buffer, size}));
}

GC_API IFUpdateDeviceList(IF_HANDLE handle, bool8_t *changed, uint64_t timeout_ms) {
    (void)timeout_ms;
    ON(interface, INTERFACE, update_devices(interface, changed));
}

GC_API IFGetNumDevices(IF_HANDLE handle, uint32_t *count) {
    ON(interface, INTERFACE, give_count(count, interface->listed));
}

GC_API IFGetDeviceID(IF_HANDLE handle, uint32_t index, char *id, size_t *size) {
    ON(interface, INTERFACE, get_device_id(interface, index, (struct answer){NULL, id, size}));
}

GC_API IFGetDeviceInfo(IF_HANDLE handle, const char *id, DEVICE_INFO_CMD command, INFO_DATATYPE *type, void *buffer,
                       size_t *size) {
    ON(interface, INTERFACE, get_device_info(interface, id, command, (struct answer){type, buffer, size}));
}

GC_API IFOpenDevice(IF_HANDLE handle, const char *id, DEVICE_ACCESS_FLAGS access, DEV_HANDLE *device) {
    (void)access; /* whoever opens a camera has it alone */
    ON(interface, INTERFACE, open_device(interface, id, device));
}
