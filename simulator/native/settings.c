/* The camera's settings: the user sets that keep them, and what follows from them. */
#include "producer.h"

enum user_set { USER_SET_DEFAULT, USER_SET_0 };

static struct camera_settings user_set(const struct camera_header *header, uint32_t number) {
    if (number == USER_SET_0 && header->user_set_is_saved) return header->user_set;
    return (struct camera_settings){
        .region = {.width_px = header->width, .height_px = header->height},
        .pixel_format = header->pixel_format,
        .frame_rate_hz = 30.0,
        .exposure_us = NOMINAL_EXPOSURE_US,
    };
}

void registers_reset(struct device *device) {
    const struct camera_header *header = device->file.header;
    device->registers = (struct registers){.settings = user_set(header, header->user_set_default)};
}

double exposure_us(const struct device *device) {
    const struct camera_settings *settings = &device->registers.settings;
    uint32_t automatic_us = atomic_load(&device->file.header->auto_exposure_us);
    return settings->exposure_is_automatic && automatic_us != 0 ? automatic_us : settings->exposure_us;
}

uint32_t chunks_enabled(const struct registers *registers) {
    return registers->settings.chunk_mode_is_active ? registers->settings.chunks : 0;
}

size_t chunk_bytes(uint32_t chunks) { return sizeof(union value) * (size_t)__builtin_popcount(chunks); }

uint64_t payload_bytes(const struct registers *registers) {
    const struct camera_settings *settings = &registers->settings;
    return settings->region.height_px * row_bytes(settings->pixel_format, settings->region.width_px) +
           chunk_bytes(chunks_enabled(registers));
}

GC_ERROR user_set_load(struct device *device) {
    struct registers *registers = &device->registers;
    if (registers->is_acquiring) return fail(GC_ERR_ACCESS_DENIED, "locked while the camera acquires");
    registers->settings = user_set(device->file.header, registers->user_set_selector);
    return GC_ERR_SUCCESS;
}

GC_ERROR user_set_save(struct device *device) {
    struct camera_header *header = device->file.header;
    if (device->registers.user_set_selector == USER_SET_DEFAULT)
        return fail(GC_ERR_ACCESS_DENIED, "the factory's user set cannot be changed");
    header->user_set = device->registers.settings;
    header->user_set_is_saved = true;
    return GC_ERR_SUCCESS;
}
