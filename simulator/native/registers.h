/* The remote device's register map: every feature of device.xml is a register here.
 * Numbers are 8 bytes little-endian (integer or IEEE double) at NUMBERS_ADDRESS + 8 * index. */
#ifndef REPLAY_REGISTERS_H
#define REPLAY_REGISTERS_H

#include "gentl.h"
#include "render.h"

#include <stdbool.h>
#include <stdint.h>

#define STRINGS_ADDRESS 0x1000u /* four of CAMERA_NAME_BYTES */
#define NUMBERS_ADDRESS 0x2000u
#define XML_ADDRESS 0x100000u

/* The order fixes the addresses in device.xml. */
enum register_index {
    REGISTER_WIDTH,
    REGISTER_HEIGHT,
    REGISTER_OFFSET_X,
    REGISTER_OFFSET_Y,
    REGISTER_SENSOR_WIDTH,
    REGISTER_SENSOR_HEIGHT,
    REGISTER_PIXEL_FORMAT,
    REGISTER_IS_COLOUR,
    REGISTER_PAYLOAD_SIZE,
    REGISTER_ACQUISITION_MODE,
    REGISTER_ACQUISITION_START,
    REGISTER_ACQUISITION_STOP,
    REGISTER_FRAME_RATE,
    REGISTER_EXPOSURE_TIME,
    REGISTER_GAIN,
    REGISTER_TRIGGER_SELECTOR,
    REGISTER_TRIGGER_MODE,
    REGISTER_TRIGGER_SOURCE,
    REGISTER_TRIGGER_ACTIVATION,
    REGISTER_TRIGGER_SOFTWARE,
    REGISTER_TIMESTAMP_LATCH,
    REGISTER_TIMESTAMP_LATCH_VALUE,
    REGISTER_TEMPERATURE,
    REGISTER_USER_SET_SELECTOR,
    REGISTER_USER_SET_LOAD,
    REGISTER_COUNT
};

enum trigger_source { TRIGGER_BY_SOFTWARE = 0, TRIGGER_BY_LINE0 = 1 };

struct registers {
    struct region region;
    uint32_t pixel_format;
    double frame_rate_hz;
    double exposure_us;
    double gain_db;
    bool trigger_is_on;
    enum trigger_source trigger_source;
    bool trigger_on_falling_edge; /* a pulse has both edges, so this is stored and changes nothing */
    uint64_t latched_ns;
    bool is_acquiring;
};

struct device;

void registers_reset(struct device *device);
uint64_t payload_bytes(const struct registers *registers);
GC_ERROR registers_read(struct device *device, uint64_t address, void *target, size_t size);
GC_ERROR registers_write(struct device *device, uint64_t address, const void *source, size_t size);

#endif
