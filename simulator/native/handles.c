#include "producer.h"

#define SLOT_BITS 12
#define SLOTS (1u << SLOT_BITS)

static struct {
    struct module *module;
    uintptr_t generation; /* so that a handle of what lived here before is recognised as stale */
} slots[SLOTS];

bool handle_create(struct module *module, enum module_kind kind) {
    for (uintptr_t slot = 0; slot < SLOTS; ++slot) {
        if (slots[slot].module != NULL) continue;
        slots[slot].module = module;
        slots[slot].generation += 1;
        module->kind = kind;
        module->handle = (void *)(slots[slot].generation << SLOT_BITS | slot);
        return true;
    }
    fail(GC_ERR_RESOURCE_EXHAUSTED, "more than %u handles", SLOTS);
    return false;
}

struct module *handle_resolve(void *handle, enum module_kind kind) {
    uintptr_t slot = (uintptr_t)handle & (SLOTS - 1);
    struct module *module = slots[slot].module;
    if (module != NULL && module->handle == handle && (kind == ANY_MODULE || module->kind == kind)) return module;
    fail(GC_ERR_INVALID_HANDLE, "%p is not the handle of an open module of the kind asked for", handle);
    return NULL;
}

void handle_release(struct module *module) {
    slots[(uintptr_t)module->handle & (SLOTS - 1)].module = NULL;
    module->handle = NULL;
}
