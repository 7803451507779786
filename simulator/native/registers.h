/* The remote device's register map: every feature of device.xml is a register here.
 * Numbers are 8 bytes little-endian (integer or IEEE double) at NUMBERS_ADDRESS + 8 * index. */
#ifndef REPLAY_REGISTERS_H
#define REPLAY_REGISTERS_H

#include "camera_file.h"
#include "gentl.h"

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
    REGISTER_USER_SET_SAVE,
    REGISTER_USER_SET_DEFAULT,
    REGISTER_EXPOSURE_AUTO,
    REGISTER_CHUNK_MODE_ACTIVE,
    REGISTER_CHUNK_SELECTOR,
    REGISTER_CHUNK_ENABLE,
    REGISTER_COUNT
};

enum trigger_source { TRIGGER_BY_SOFTWARE = 0, TRIGGER_BY_LINE0 = 1 };

/* ChunkSelector; a chunk's ChunkID in device.xml is one more. Each is a number of 8 bytes. */
enum chunk { CHUNK_FRAME_ID, CHUNK_TIMESTAMP, CHUNK_EXPOSURE_TIME, CHUNK_GAIN, CHUNK_COUNT };

union value {
    int64_t integer;
    double real;
};

struct registers {
    struct camera_settings settings;
    uint32_t user_set_selector;
    uint32_t chunk_selector;
    uint64_t latched_ns;
    bool is_acquiring;
};

struct device;

GC_ERROR registers_read(struct device *device, uint64_t address, void *target, size_t size);
GC_ERROR registers_write(struct device *device, uint64_t address, const void *source, size_t size);

/* settings.c */
void registers_reset(struct device *device); /* to the user set that is the default */
double exposure_us(const struct device *device);
uint32_t chunks_enabled(const struct registers *registers); /* none while the chunk mode is off */
size_t chunk_bytes(uint32_t chunks);
GC_ERROR user_set_load(struct device *device);
GC_ERROR user_set_save(struct device *device);
uint64_t payload_bytes(const struct registers *registers);

#endif
