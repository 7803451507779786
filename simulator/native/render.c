#include "render.h"

#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

uint32_t bytes_per_pixel(uint32_t pixel_format) { return pixel_format == PFNC_RGB8 ? 3 : 1; }

/* Returns whether the table changes anything. */
static bool fill_brightness(uint8_t table[256], double exposure_us, double gain_db) {
    bool changes = false;
    double factor = exposure_us / NOMINAL_EXPOSURE_US * pow(10.0, gain_db / 20.0);
    for (int value = 0; value < 256; ++value) {
        double scaled = floor(value * factor + 0.5);
        table[value] = (uint8_t)(scaled > 255.0 ? 255.0 : scaled);
        changes = changes || table[value] != value;
    }
    return changes;
}

static void row_to_mono(const uint8_t *rgb, uint8_t *target, uint32_t width_px) {
    /* ITU-R BT.601 luma, rounded. */
    for (uint32_t x = 0; x < width_px; ++x, rgb += 3)
        target[x] = (uint8_t)((299u * rgb[0] + 587u * rgb[1] + 114u * rgb[2] + 500u) / 1000u);
}

static void row_to_bayer(const uint8_t *rgb, uint8_t *target, struct region region, uint32_t row) {
    /* RGGB counted from the sensor's corner: channel 0 on even rows and columns, 2 on odd ones, else 1. */
    uint32_t y_odd = (region.y_px + row) & 1u;
    for (uint32_t x = 0; x < region.width_px; ++x, rgb += 3) target[x] = rgb[y_odd + ((region.x_px + x) & 1u)];
}

void render(const struct rendering *job, uint8_t *target, uint32_t rows) {
    uint8_t brightness[256];
    bool adjust = fill_brightness(brightness, job->exposure_us, job->gain_db);
    size_t source_pixel_bytes = bytes_per_pixel(job->source_format);
    size_t row_bytes = (size_t)job->region.width_px * bytes_per_pixel(job->format);

    for (uint32_t row = 0; row < rows; ++row, target += row_bytes) {
        size_t pixel = (size_t)(job->region.y_px + row) * job->source_width_px + job->region.x_px;
        const uint8_t *source = job->source + pixel * source_pixel_bytes;
        if (job->format == job->source_format)
            memcpy(target, source, row_bytes);
        else if (job->format == PFNC_BAYER_RG8)
            row_to_bayer(source, target, job->region, row);
        else
            row_to_mono(source, target, job->region.width_px);
        for (size_t i = 0; adjust && i < row_bytes; ++i) target[i] = brightness[target[i]];
    }
}
