/* Ports: every module has one, for the registers that its XML describes. */
#include "producer.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define SETTING_ADDRESS 0x100u

static size_t xml_bytes(const struct port *port) { return (size_t)(port->xml_end - port->xml); }

static GC_ERROR bad_address(uint64_t address, size_t size) {
    return fail(GC_ERR_INVALID_ADDRESS, "no register of %zu bytes at 0x%" PRIx64, size, address);
}

static GC_ERROR read_local(const struct port *port, uint64_t address, void *target, size_t size) {
    char text[CAMERA_NAME_BYTES] = {0};
    uint32_t value = port->setting != NULL ? atomic_load(port->setting) : 0;
    if (address == SETTING_ADDRESS && port->setting != NULL && size == sizeof value) {
        memcpy(target, &value, size);
        return GC_ERR_SUCCESS;
    }
    if (address != 0 || size > sizeof text) return bad_address(address, size);
    memcpy(text, port->id, strlen(port->id));
    memcpy(target, text, size);
    return GC_ERR_SUCCESS;
}

static GC_ERROR write_local(const struct port *port, uint64_t address, const void *source, size_t size) {
    uint32_t value;
    if (address != SETTING_ADDRESS || port->setting == NULL || size != sizeof value) return bad_address(address, size);
    if (port->is_locked) return fail(GC_ERR_ACCESS_DENIED, "locked while the stream runs");
    memcpy(&value, source, sizeof value);
    if (value > port->setting_limit) return fail(GC_ERR_INVALID_VALUE, "%u is not one of the values", value);
    atomic_store(port->setting, value);
    producer_changed();
    return GC_ERR_SUCCESS;
}

/* A slow device: its client waits, its sensor goes on. */
static void take_time(const struct device *device) {
    uint64_t delay_ns = (uint64_t)atomic_load(&device->file.header->feature_delay_ms) * 1000000u;
    uint64_t deadline_ns = now_ns() + delay_ns;
    while (now_ns() < deadline_ns) producer_wait_until(deadline_ns);
}

static GC_ERROR read_port(void *handle, uint64_t address, void *target, size_t *size) {
    struct port port;
    GC_ERROR code = port_describe(handle, &port);
    if (code == GC_ERR_SUCCESS && port.remote != NULL) code = device_check(port.remote);
    if (code != GC_ERR_SUCCESS) return code;
    if (target == NULL || size == NULL) return fail(GC_ERR_INVALID_PARAMETER, "buffer and size must not be NULL");
    if (address >= XML_ADDRESS && address - XML_ADDRESS < xml_bytes(&port)) {
        size_t available = xml_bytes(&port) - (size_t)(address - XML_ADDRESS);
        if (*size > available) *size = available;
        memcpy(target, port.xml + (address - XML_ADDRESS), *size);
        return GC_ERR_SUCCESS;
    }
    if (port.remote != NULL) take_time(port.remote);
    return port.remote != NULL ? registers_read(port.remote, address, target, *size)
                               : read_local(&port, address, target, *size);
}

static GC_ERROR write_port(void *handle, uint64_t address, const void *source, const size_t *size) {
    struct port port;
    GC_ERROR code = port_describe(handle, &port);
    if (code != GC_ERR_SUCCESS) return code;
    if (source == NULL || size == NULL) return fail(GC_ERR_INVALID_PARAMETER, "buffer and size must not be NULL");
    if (port.remote == NULL) return write_local(&port, address, source, *size);
    take_time(port.remote);
    code = device_check(port.remote);
    return code == GC_ERR_SUCCESS ? registers_write(port.remote, address, source, *size) : code;
}

static GC_ERROR get_info(void *handle, PORT_INFO_CMD command, struct answer answer) {
    struct port port;
    GC_ERROR code = port_describe(handle, &port);
    if (code != GC_ERR_SUCCESS) return code;
    switch (command) {
    case PORT_INFO_ID:
        return answer_string(answer, port.id);
    case PORT_INFO_VENDOR:
        return answer_string(answer, PRODUCER_VENDOR);
    case PORT_INFO_MODEL:
        return answer_string(answer, PRODUCER_MODEL);
    case PORT_INFO_TLTYPE:
        return answer_string(answer, PRODUCER_TLTYPE);
    case PORT_INFO_MODULE:
        return answer_string(answer, port.module);
    case PORT_INFO_LITTLE_ENDIAN:
    case PORT_INFO_ACCESS_READ:
        return answer_bool8(answer, true);
    case PORT_INFO_ACCESS_WRITE:
        return answer_bool8(answer, port.remote != NULL || port.setting != NULL);
    case PORT_INFO_BIG_ENDIAN:
    case PORT_INFO_ACCESS_NA:
    case PORT_INFO_ACCESS_NI:
        return answer_bool8(answer, false);
    case PORT_INFO_VERSION:
        return answer_string(answer, PRODUCER_VERSION);
    case PORT_INFO_PORTNAME:
        return answer_string(answer, port.name);
    default:
        return fail(GC_ERR_NOT_IMPLEMENTED, "PORT_INFO command %d", (int)command);
    }
}

static GC_ERROR get_url_info(void *handle, uint32_t index, URL_INFO_CMD command, struct answer answer) {
    struct port port;
    GC_ERROR code = port_describe(handle, &port);
    if (code != GC_ERR_SUCCESS) return code;
    if (index != 0) return fail(GC_ERR_INVALID_INDEX, "URL %u of 1", index);
    char url[128];
    switch (command) {
    case URL_INFO_URL:
        snprintf(url, sizeof url, "Local:%s;%x;%zx", port.file, XML_ADDRESS, xml_bytes(&port));
        return answer_string(answer, url);
    case URL_INFO_SCHEMA_VER_MAJOR:
    case URL_INFO_SCHEMA_VER_MINOR:
    case URL_INFO_FILE_VER_MAJOR:
        return answer_int32(answer, 1);
    case URL_INFO_FILE_VER_MINOR:
    case URL_INFO_FILE_VER_SUBMINOR:
        return answer_int32(answer, 0);
    case URL_INFO_FILE_REGISTER_ADDRESS:
        return answer_uint64(answer, XML_ADDRESS);
    case URL_INFO_FILE_SIZE:
        return answer_uint64(answer, xml_bytes(&port));
    case URL_INFO_SCHEME:
        return answer_int32(answer, URL_SCHEME_LOCAL);
    case URL_INFO_FILENAME:
        return answer_string(answer, port.file);
    default:
        return fail(GC_ERR_NOT_AVAILABLE, "URL_INFO command %d", (int)command);
    }
}

static GC_ERROR count_urls(void *handle, uint32_t *count) {
    struct port port;
    GC_ERROR code = port_describe(handle, &port);
    return code == GC_ERR_SUCCESS ? give_count(count, 1) : code;
}

typedef GC_ERROR transfer(void *handle, const PORT_REGISTER_STACK_ENTRY *entry);

static GC_ERROR read_entry(void *handle, const PORT_REGISTER_STACK_ENTRY *entry) {
    size_t size = entry->Size;
    return read_port(handle, entry->Address, entry->pBuffer, &size);
}

static GC_ERROR write_entry(void *handle, const PORT_REGISTER_STACK_ENTRY *entry) {
    size_t size = entry->Size;
    return write_port(handle, entry->Address, entry->pBuffer, &size);
}

static GC_ERROR transfer_all(transfer *transfer_one, void *handle, const PORT_REGISTER_STACK_ENTRY *entries,
                             size_t *count) {
    if (entries == NULL || count == NULL) return fail(GC_ERR_INVALID_PARAMETER, "entries and count must not be NULL");
    for (size_t i = 0; i < *count; ++i) {
        GC_ERROR code = transfer_one(handle, &entries[i]);
        if (code != GC_ERR_SUCCESS) {
            *count = i;
            return code;
        }
    }
    return GC_ERR_SUCCESS;
}

GC_API GCReadPort(PORT_HANDLE handle, uint64_t address, void *target, size_t *size) {
    LOCKED(read_port(handle, address, target, size));
}

GC_API GCWritePort(PORT_HANDLE handle, uint64_t address, const void *source, size_t *size) {
    LOCKED(write_port(handle, address, source, size));
}

GC_API GCReadPortStacked(PORT_HANDLE handle, PORT_REGISTER_STACK_ENTRY *entries, size_t *count) {
    LOCKED(transfer_all(read_entry, handle, entries, count));
}

GC_API GCWritePortStacked(PORT_HANDLE handle, PORT_REGISTER_STACK_ENTRY *entries, size_t *count) {
    LOCKED(transfer_all(write_entry, handle, entries, count));
}

GC_API GCGetPortInfo(PORT_HANDLE handle, PORT_INFO_CMD command, INFO_DATATYPE *type, void *buffer, size_t *size) {
    LOCKED(get_info(handle, command, (struct answer){type, buffer, size}));
}

GC_API GCGetNumPortURLs(PORT_HANDLE handle, uint32_t *count) { LOCKED(count_urls(handle, count)); }

GC_API GCGetPortURL(PORT_HANDLE handle, char *url, size_t *size) {
    LOCKED(get_url_info(handle, 0, URL_INFO_URL, (struct answer){NULL, url, size}));
}

GC_API GCGetPortURLInfo(PORT_HANDLE handle, uint32_t index, URL_INFO_CMD command, INFO_DATATYPE *type, void *buffer,
                        size_t *size) {
    LOCKED(get_url_info(handle, index, command, (struct answer){type, buffer, size}));
}
