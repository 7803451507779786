#include "registers.h"

#include "producer.h"

#include <string.h>

static union value integer(uint64_t value) { return (union value){.integer = (int64_t)value}; }

static union value read_number(const struct device *device, enum register_index index) {
    const struct registers *registers = &device->registers;
    const struct camera_settings *settings = &registers->settings;
    const struct camera_header *header = device->file.header;
    switch (index) {
    case REGISTER_WIDTH:
        return integer(settings->region.width_px);
    case REGISTER_HEIGHT:
        return integer(settings->region.height_px);
    case REGISTER_OFFSET_X:
        return integer(settings->region.x_px);
    case REGISTER_OFFSET_Y:
        return integer(settings->region.y_px);
    case REGISTER_SENSOR_WIDTH:
        return integer(header->width);
    case REGISTER_SENSOR_HEIGHT:
        return integer(header->height);
    case REGISTER_PIXEL_FORMAT:
        return integer(settings->pixel_format);
    case REGISTER_IS_COLOUR:
        return integer(header->pixel_format == PFNC_RGB8);
    case REGISTER_PAYLOAD_SIZE:
        return integer(payload_bytes(registers));
    case REGISTER_FRAME_RATE:
        return (union value){.real = settings->frame_rate_hz};
    case REGISTER_EXPOSURE_TIME:
        return (union value){.real = exposure_us(device)};
    case REGISTER_GAIN:
        return (union value){.real = settings->gain_db};
    case REGISTER_TRIGGER_MODE:
        return integer(settings->trigger_is_on);
    case REGISTER_TRIGGER_SOURCE:
        return integer(settings->trigger_source);
    case REGISTER_TRIGGER_ACTIVATION:
        return integer(settings->trigger_on_falling_edge);
    case REGISTER_TIMESTAMP_LATCH_VALUE:
        return integer(registers->latched_ns);
    case REGISTER_TEMPERATURE:
        return (union value){.real = 45.0};
    case REGISTER_USER_SET_SELECTOR:
        return integer(registers->user_set_selector);
    case REGISTER_USER_SET_DEFAULT:
        return integer(header->user_set_default);
    case REGISTER_EXPOSURE_AUTO:
        return integer(settings->exposure_is_automatic);
    case REGISTER_CHUNK_MODE_ACTIVE:
        return integer(settings->chunk_mode_is_active);
    case REGISTER_CHUNK_SELECTOR:
        return integer(registers->chunk_selector);
    case REGISTER_CHUNK_ENABLE:
        return integer(settings->chunks >> registers->chunk_selector & 1u);
    case REGISTER_ACQUISITION_MODE: /* Continuous is the only one */
    case REGISTER_TRIGGER_SELECTOR: /* FrameStart is the only one */
    case REGISTER_ACQUISITION_START:
    case REGISTER_ACQUISITION_STOP:
    case REGISTER_TRIGGER_SOFTWARE:
    case REGISTER_TIMESTAMP_LATCH:
    case REGISTER_USER_SET_LOAD:
    case REGISTER_USER_SET_SAVE:
    case REGISTER_COUNT:
        break;
    }
    return integer(0);
}

static GC_ERROR set_integer(uint32_t *target, int64_t value, int64_t minimum, int64_t maximum) {
    if (value < minimum || value > maximum)
        return fail(GC_ERR_INVALID_VALUE, "%lld is not within %lld..%lld", (long long)value, (long long)minimum,
                    (long long)maximum);
    *target = (uint32_t)value;
    return GC_ERR_SUCCESS;
}

static GC_ERROR set_real(double *target, double value, double minimum, double maximum) {
    if (!(value >= minimum && value <= maximum))
        return fail(GC_ERR_INVALID_VALUE, "%g is not within %g..%g", value, minimum, maximum);
    *target = value;
    return GC_ERR_SUCCESS;
}

static GC_ERROR set_flag(uint32_t *target, int64_t value) { return set_integer(target, value, 0, 1); }

static GC_ERROR set_offset(uint32_t *target, int64_t value, uint32_t sensor_px, uint32_t size_px) {
    /* Steps of two keep the colour filter's phase. */
    if (value % 2 != 0) return fail(GC_ERR_INVALID_VALUE, "an offset of %lld is not even", (long long)value);
    return set_integer(target, value, 0, (int64_t)sensor_px - size_px);
}

static GC_ERROR set_pixel_format(struct device *device, int64_t value) {
    if (value < 0 || value > UINT32_MAX ||
        !has_format((uint32_t)value, device->file.header->pixel_format == PFNC_RGB8))
        return fail(GC_ERR_INVALID_VALUE, "this camera has no pixel format 0x%llx", (unsigned long long)value);
    device->registers.settings.pixel_format = (uint32_t)value;
    return GC_ERR_SUCCESS;
}

static GC_ERROR enable_chunk(struct registers *registers, int64_t value) {
    uint32_t enabled = 0;
    GC_ERROR code = set_flag(&enabled, value);
    uint32_t others = registers->settings.chunks & ~(1u << registers->chunk_selector);
    if (code == GC_ERR_SUCCESS) registers->settings.chunks = others | enabled << registers->chunk_selector;
    return code;
}

/* What decides the size of a frame. */
static GC_ERROR write_format(struct device *device, enum register_index index, int64_t value) {
    const struct camera_header *header = device->file.header;
    struct region *region = &device->registers.settings.region;
    if (device->registers.is_acquiring) return fail(GC_ERR_ACCESS_DENIED, "locked while the camera acquires");
    switch (index) {
    case REGISTER_WIDTH:
        return set_integer(&region->width_px, value, 1, (int64_t)header->width - region->x_px);
    case REGISTER_HEIGHT:
        return set_integer(&region->height_px, value, 1, (int64_t)header->height - region->y_px);
    case REGISTER_OFFSET_X:
        return set_offset(&region->x_px, value, header->width, region->width_px);
    case REGISTER_OFFSET_Y:
        return set_offset(&region->y_px, value, header->height, region->height_px);
    case REGISTER_CHUNK_MODE_ACTIVE:
        return set_flag(&device->registers.settings.chunk_mode_is_active, value);
    case REGISTER_CHUNK_ENABLE:
        return enable_chunk(&device->registers, value);
    default:
        return set_pixel_format(device, value);
    }
}

static GC_ERROR set_exposure(struct camera_settings *settings, double value) {
    if (settings->exposure_is_automatic) return fail(GC_ERR_ACCESS_DENIED, "locked while ExposureAuto is on");
    return set_real(&settings->exposure_us, value, 10.0, 1000000.0);
}

static GC_ERROR execute(struct device *device, enum register_index index) {
    switch (index) {
    case REGISTER_USER_SET_LOAD:
        return user_set_load(device);
    case REGISTER_USER_SET_SAVE:
        return user_set_save(device);
    case REGISTER_ACQUISITION_START:
        sensor_start(device);
        return GC_ERR_SUCCESS;
    case REGISTER_ACQUISITION_STOP:
        device->registers.is_acquiring = false;
        return GC_ERR_SUCCESS;
    case REGISTER_TRIGGER_SOFTWARE:
        sensor_software_trigger(device);
        return GC_ERR_SUCCESS;
    default:
        device->registers.latched_ns = now_ns();
        return GC_ERR_SUCCESS;
    }
}

static GC_ERROR write_number(struct device *device, enum register_index index, union value value) {
    struct registers *registers = &device->registers;
    struct camera_settings *settings = &registers->settings;
    uint32_t only_one;
    switch (index) {
    case REGISTER_WIDTH:
    case REGISTER_HEIGHT:
    case REGISTER_OFFSET_X:
    case REGISTER_OFFSET_Y:
    case REGISTER_PIXEL_FORMAT:
    case REGISTER_CHUNK_MODE_ACTIVE:
    case REGISTER_CHUNK_ENABLE:
        return write_format(device, index, value.integer);
    case REGISTER_ACQUISITION_MODE:
    case REGISTER_TRIGGER_SELECTOR:
        return set_integer(&only_one, value.integer, 0, 0);
    case REGISTER_USER_SET_SELECTOR:
        return set_flag(&registers->user_set_selector, value.integer);
    case REGISTER_USER_SET_DEFAULT:
        return set_flag(&device->file.header->user_set_default, value.integer);
    case REGISTER_CHUNK_SELECTOR:
        return set_integer(&registers->chunk_selector, value.integer, 0, CHUNK_COUNT - 1);
    case REGISTER_FRAME_RATE:
        return set_real(&settings->frame_rate_hz, value.real, 0.1, 2000.0);
    case REGISTER_EXPOSURE_TIME:
        return set_exposure(settings, value.real);
    case REGISTER_EXPOSURE_AUTO:
        return set_flag(&settings->exposure_is_automatic, value.integer);
    case REGISTER_GAIN:
        return set_real(&settings->gain_db, value.real, 0.0, 24.0);
    case REGISTER_TRIGGER_MODE:
        return set_flag(&settings->trigger_is_on, value.integer);
    case REGISTER_TRIGGER_SOURCE:
        return set_flag(&settings->trigger_source, value.integer);
    case REGISTER_TRIGGER_ACTIVATION:
        return set_flag(&settings->trigger_on_falling_edge, value.integer);
    case REGISTER_USER_SET_SAVE:
    case REGISTER_ACQUISITION_START:
    case REGISTER_ACQUISITION_STOP:
    case REGISTER_TRIGGER_SOFTWARE:
    case REGISTER_TIMESTAMP_LATCH:
    case REGISTER_USER_SET_LOAD:
        return execute(device, index);
    default:
        return fail(GC_ERR_ACCESS_DENIED, "register %d is read-only", (int)index);
    }
}

/* The index of the number at an address, or REGISTER_COUNT. */
static enum register_index number_at(uint64_t address, size_t size) {
    uint64_t offset = address - NUMBERS_ADDRESS;
    if (size != sizeof(union value) || offset % size != 0 || offset / size >= REGISTER_COUNT) return REGISTER_COUNT;
    return (enum register_index)(offset / size);
}

static char *string_at(struct device *device, uint64_t address) {
    struct camera_header *header = device->file.header;
    char *const strings[] = {header->vendor, header->model, header->serial, header->user_id};
    uint64_t offset = address - STRINGS_ADDRESS;
    if (offset % CAMERA_NAME_BYTES != 0 || offset / CAMERA_NAME_BYTES >= 4) return NULL;
    return strings[offset / CAMERA_NAME_BYTES];
}

static GC_ERROR bad_address(uint64_t address, size_t size) {
    return fail(GC_ERR_INVALID_ADDRESS, "no register of %zu bytes at 0x%llx", size, (unsigned long long)address);
}

GC_ERROR registers_read(struct device *device, uint64_t address, void *target, size_t size) {
    const char *text = string_at(device, address);
    enum register_index index = number_at(address, size);
    if (text != NULL && size <= CAMERA_NAME_BYTES) {
        memcpy(target, text, size);
    } else if (index != REGISTER_COUNT) {
        union value value = read_number(device, index);
        memcpy(target, &value, sizeof value);
    } else {
        return bad_address(address, size);
    }
    return GC_ERR_SUCCESS;
}

GC_ERROR registers_write(struct device *device, uint64_t address, const void *source, size_t size) {
    char *text = string_at(device, address);
    enum register_index index = number_at(address, size);
    if (text == device->file.header->user_id && size <= CAMERA_NAME_BYTES) {
        memset(text, 0, CAMERA_NAME_BYTES);
        memcpy(text, source, size);
        text[CAMERA_NAME_BYTES - 1] = '\0';
        return GC_ERR_SUCCESS;
    }
    if (text != NULL) return fail(GC_ERR_ACCESS_DENIED, "this text is read-only");
    if (index == REGISTER_COUNT) return bad_address(address, size);
    union value value;
    memcpy(&value, source, sizeof value);
    GC_ERROR code = write_number(device, index, value);
    producer_changed();
    return code;
}
