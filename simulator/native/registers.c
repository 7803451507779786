#include "registers.h"

#include "producer.h"

#include <string.h>

union value {
    int64_t integer;
    double real;
};

void registers_reset(struct device *device) {
    const struct camera_header *header = device->file.header;
    device->registers = (struct registers){
        .region = {.width_px = header->width, .height_px = header->height},
        .pixel_format = header->pixel_format,
        .frame_rate_hz = 30.0,
        .exposure_us = NOMINAL_EXPOSURE_US,
    };
}

uint64_t payload_bytes(const struct registers *registers) {
    return (uint64_t)registers->region.height_px * row_bytes(registers->pixel_format, registers->region.width_px);
}

static union value integer(uint64_t value) { return (union value){.integer = (int64_t)value}; }

static union value read_number(const struct device *device, enum register_index index) {
    const struct registers *registers = &device->registers;
    const struct camera_header *header = device->file.header;
    switch (index) {
    case REGISTER_WIDTH:
        return integer(registers->region.width_px);
    case REGISTER_HEIGHT:
        return integer(registers->region.height_px);
    case REGISTER_OFFSET_X:
        return integer(registers->region.x_px);
    case REGISTER_OFFSET_Y:
        return integer(registers->region.y_px);
    case REGISTER_SENSOR_WIDTH:
        return integer(header->width);
    case REGISTER_SENSOR_HEIGHT:
        return integer(header->height);
    case REGISTER_PIXEL_FORMAT:
        return integer(registers->pixel_format);
    case REGISTER_IS_COLOUR:
        return integer(header->pixel_format == PFNC_RGB8);
    case REGISTER_PAYLOAD_SIZE:
        return integer(payload_bytes(registers));
    case REGISTER_FRAME_RATE:
        return (union value){.real = registers->frame_rate_hz};
    case REGISTER_EXPOSURE_TIME:
        return (union value){.real = registers->exposure_us};
    case REGISTER_GAIN:
        return (union value){.real = registers->gain_db};
    case REGISTER_TRIGGER_MODE:
        return integer(registers->trigger_is_on);
    case REGISTER_TRIGGER_SOURCE:
        return integer(registers->trigger_source);
    case REGISTER_TRIGGER_ACTIVATION:
        return integer(registers->trigger_on_falling_edge);
    case REGISTER_TIMESTAMP_LATCH_VALUE:
        return integer(registers->latched_ns);
    case REGISTER_TEMPERATURE:
        return (union value){.real = 45.0};
    case REGISTER_ACQUISITION_MODE: /* Continuous is the only one */
    case REGISTER_TRIGGER_SELECTOR: /* FrameStart is the only one */
    case REGISTER_ACQUISITION_START:
    case REGISTER_ACQUISITION_STOP:
    case REGISTER_TRIGGER_SOFTWARE:
    case REGISTER_TIMESTAMP_LATCH:
    case REGISTER_USER_SET_SELECTOR: /* Default is the only one */
    case REGISTER_USER_SET_LOAD:
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

static GC_ERROR set_flag(bool *target, int64_t value) {
    uint32_t flag = 0;
    GC_ERROR code = set_integer(&flag, value, 0, 1);
    if (code == GC_ERR_SUCCESS) *target = flag != 0;
    return code;
}

static GC_ERROR set_offset(uint32_t *target, int64_t value, uint32_t sensor_px, uint32_t size_px) {
    /* Steps of two keep the colour filter's phase. */
    if (value % 2 != 0) return fail(GC_ERR_INVALID_VALUE, "an offset of %lld is not even", (long long)value);
    return set_integer(target, value, 0, (int64_t)sensor_px - size_px);
}

static GC_ERROR set_pixel_format(struct device *device, int64_t value) {
    if (value < 0 || value > UINT32_MAX ||
        !has_format((uint32_t)value, device->file.header->pixel_format == PFNC_RGB8))
        return fail(GC_ERR_INVALID_VALUE, "this camera has no pixel format 0x%llx", (unsigned long long)value);
    device->registers.pixel_format = (uint32_t)value;
    return GC_ERR_SUCCESS;
}

static GC_ERROR set_trigger_source(struct registers *registers, int64_t value) {
    bool by_line = false;
    GC_ERROR code = set_flag(&by_line, value);
    if (code == GC_ERR_SUCCESS) registers->trigger_source = by_line ? TRIGGER_BY_LINE0 : TRIGGER_BY_SOFTWARE;
    return code;
}

/* What decides the size of a frame. */
static GC_ERROR write_format(struct device *device, enum register_index index, int64_t value) {
    const struct camera_header *header = device->file.header;
    struct region *region = &device->registers.region;
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
    default:
        return set_pixel_format(device, value);
    }
}

static GC_ERROR load_user_set(struct device *device) {
    if (device->registers.is_acquiring) return fail(GC_ERR_ACCESS_DENIED, "locked while the camera acquires");
    registers_reset(device);
    return GC_ERR_SUCCESS;
}

static GC_ERROR execute(struct device *device, enum register_index index) {
    switch (index) {
    case REGISTER_USER_SET_LOAD:
        return load_user_set(device);
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
    uint32_t only_one;
    switch (index) {
    case REGISTER_WIDTH:
    case REGISTER_HEIGHT:
    case REGISTER_OFFSET_X:
    case REGISTER_OFFSET_Y:
    case REGISTER_PIXEL_FORMAT:
        return write_format(device, index, value.integer);
    case REGISTER_ACQUISITION_MODE:
    case REGISTER_TRIGGER_SELECTOR:
    case REGISTER_USER_SET_SELECTOR:
        return set_integer(&only_one, value.integer, 0, 0);
    case REGISTER_FRAME_RATE:
        return set_real(&registers->frame_rate_hz, value.real, 0.1, 2000.0);
    case REGISTER_EXPOSURE_TIME:
        return set_real(&registers->exposure_us, value.real, 10.0, 1000000.0);
    case REGISTER_GAIN:
        return set_real(&registers->gain_db, value.real, 0.0, 24.0);
    case REGISTER_TRIGGER_MODE:
        return set_flag(&registers->trigger_is_on, value.integer);
    case REGISTER_TRIGGER_SOURCE:
        return set_trigger_source(registers, value.integer);
    case REGISTER_TRIGGER_ACTIVATION:
        return set_flag(&registers->trigger_on_falling_edge, value.integer);
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
