/* The library and the system module (GenTL 1.5, chapters 3.2 and 6.3.3). */
#include "producer.h"

#include <dlfcn.h>
#include <string.h>

static struct system the_system;

GC_API GCInitLib(void) {
    GC_ERROR code = producer_enter();
    bool is_first = code == GC_ERR_NOT_INITIALIZED;
    if (is_first) producer_initialize(true);
    producer_leave();
    return is_first ? GC_ERR_SUCCESS : fail(GC_ERR_RESOURCE_IN_USE, "GCInitLib was called before");
}

GC_API GCCloseLib(void) { LOCKED((system_close(), producer_initialize(false), GC_ERR_SUCCESS)); }

static const char *library_path(void) {
    Dl_info info;
    return dladdr(&the_system, &info) != 0 ? info.dli_fname : PRODUCER_ID;
}

static GC_ERROR answer_system(TL_INFO_CMD command, struct answer answer) {
    switch (command) {
    case TL_INFO_ID:
    case TL_INFO_NAME:
        return answer_string(answer, PRODUCER_ID);
    case TL_INFO_VENDOR:
        return answer_string(answer, PRODUCER_VENDOR);
    case TL_INFO_MODEL:
        return answer_string(answer, PRODUCER_MODEL);
    case TL_INFO_VERSION:
        return answer_string(answer, PRODUCER_VERSION);
    case TL_INFO_TLTYPE:
        return answer_string(answer, PRODUCER_TLTYPE);
    case TL_INFO_PATHNAME:
        return answer_string(answer, library_path());
    case TL_INFO_DISPLAYNAME:
        return answer_string(answer, PRODUCER_VENDOR " " PRODUCER_MODEL);
    case TL_INFO_CHAR_ENCODING:
        return answer_int32(answer, TL_CHAR_ENCODING_UTF8);
    case TL_INFO_GENTL_VER_MAJOR:
        return answer_uint32(answer, 1);
    case TL_INFO_GENTL_VER_MINOR:
        return answer_uint32(answer, 5);
    default:
        return fail(GC_ERR_NOT_IMPLEMENTED, "TL_INFO command %d", (int)command);
    }
}

GC_API GCGetInfo(TL_INFO_CMD command, INFO_DATATYPE *type, void *buffer, size_t *size) {
    /* Needs no state, so it answers before GCInitLib, too. */
    return answer_system(command, (struct answer){type, buffer, size});
}

static GC_ERROR open_system(TL_HANDLE *handle) {
    if (handle == NULL) return fail(GC_ERR_INVALID_PARAMETER, "the handle must not be NULL");
    if (the_system.is_open) return fail(GC_ERR_RESOURCE_IN_USE, "the system is open already");
    the_system = (struct system){0};
    if (!handle_create(&the_system.module, SYSTEM)) return GC_ERR_RESOURCE_EXHAUSTED;
    the_system.is_open = true;
    *handle = the_system.module.handle;
    return GC_ERR_SUCCESS;
}

GC_API TLOpen(TL_HANDLE *handle) { LOCKED(open_system(handle)); }

void system_close(void) {
    if (!the_system.is_open) return;
    if (the_system.interface != NULL) interface_close(the_system.interface);
    events_release(&the_system.module);
    handle_release(&the_system.module);
    the_system.is_open = false;
}

static GC_ERROR update_interfaces(bool8_t *changed) {
    if (changed != NULL) *changed = false; /* the one interface is always there */
    return GC_ERR_SUCCESS;
}

static GC_ERROR get_interface_id(uint32_t index, struct answer answer) {
    if (index != 0) return fail(GC_ERR_INVALID_INDEX, "interface %u of 1", index);
    return answer_string(answer, INTERFACE_ID);
}

static GC_ERROR check_interface_id(const char *id) {
    if (id != NULL && strcmp(id, INTERFACE_ID) == 0) return GC_ERR_SUCCESS;
    return fail(GC_ERR_INVALID_ID, "no interface '%s'", id != NULL ? id : "(NULL)");
}

static GC_ERROR get_interface_info(const char *id, INTERFACE_INFO_CMD command, struct answer answer) {
    GC_ERROR code = check_interface_id(id);
    return code == GC_ERR_SUCCESS ? interface_answer(command, answer) : code;
}

static GC_ERROR open_interface(struct system *system, const char *id, IF_HANDLE *interface) {
    GC_ERROR code = check_interface_id(id);
    if (code != GC_ERR_SUCCESS) return code;
    if (interface == NULL) return fail(GC_ERR_INVALID_PARAMETER, "the handle must not be NULL");
    return interface_open(system, interface);
}

GC_API TLClose(TL_HANDLE handle) { ON(system, SYSTEM, (system_close(), GC_ERR_SUCCESS)); }

GC_API TLGetInfo(TL_HANDLE handle, TL_INFO_CMD command, INFO_DATATYPE *type, void *buffer, size_t *size) {
    ON(system, SYSTEM, answer_system(command, (struct answer){type, buffer, size}));
}

GC_API TLUpdateInterfaceList(TL_HANDLE handle, bool8_t *changed, uint64_t timeout_ms) {
    (void)timeout_ms;
    ON(system, SYSTEM, update_interfaces(changed));
}

GC_API TLGetNumInterfaces(TL_HANDLE handle, uint32_t *count) { ON(system, SYSTEM, give_count(count, 1)); }

GC_API TLGetInterfaceID(TL_HANDLE handle, uint32_t index, char *id, size_t *size) {
    ON(system, SYSTEM, get_interface_id(index, (struct answer){NULL, id, size}));
}

GC_API TLGetInterfaceInfo(TL_HANDLE handle, const char *id, INTERFACE_INFO_CMD command, INFO_DATATYPE *type,
                          void *buffer, size_t *size) {
    ON(system, SYSTEM, get_interface_info(id, command, (struct answer){type, buffer, size}));
}

GC_API TLOpenInterface(TL_HANDLE handle, const char *id, IF_HANDLE *interface) {
    ON(system, SYSTEM, open_interface(system, id, interface));
}
