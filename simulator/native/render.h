/* From a stored image to what the sensor delivers: region of interest, pixel format, brightness. */
#ifndef REPLAY_RENDER_H
#define REPLAY_RENDER_H

#include <stdint.h>

/* PFNC values (GenICam Pixel Format Naming Convention). */
#define PFNC_MONO8 0x01080001u
#define PFNC_BAYER_RG8 0x01080009u
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

uint32_t bytes_per_pixel(uint32_t pixel_format);

/* Writes the first `rows` rows of the region to `target`, without padding. */
void render(const struct rendering *job, uint8_t *target, uint32_t rows);

#endif
