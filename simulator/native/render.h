/* From a stored image to what the sensor delivers: region of interest, brightness, pixel format. */
#ifndef REPLAY_RENDER_H
#define REPLAY_RENDER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* PFNC values (GenICam Pixel Format Naming Convention) of the formats that images are stored in. */
#define PFNC_MONO8 0x01080001u
#define PFNC_RGB8 0x02180014u

/* The sensor is calibrated so that this exposure without gain shows the image as it is stored. */
#define NOMINAL_EXPOSURE_US 5000.0

struct region {
    uint32_t x_px, y_px, width_px, height_px;
};

struct rendering {
    const uint8_t *source; /* a whole stored image */
    uint32_t source_format; /* Mono8 or RGB8 */
    uint32_t source_width_px;
    uint32_t format;
    struct region region;
    double exposure_us;
    double gain_db;
};

/* Whether a sensor, of colour or not, delivers a pixel format. */
bool has_format(uint32_t format, bool is_colour);

/* Bytes of a row without padding; a last group of packed pixels that is not full is begun all the same. */
size_t row_bytes(uint32_t format, uint32_t width_px);

/* Writes the rows from `first` to before `end` of the region into `image`, which holds all of them. */
void render(const struct rendering *job, uint8_t *image, uint32_t first, uint32_t end);

#endif
