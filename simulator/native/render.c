#include "render.h"

#include "pack.h"

#include <math.h>
#include <string.h>

/* How many pixels are converted at a time: whole groups of every packed format. */
#define BLOCK_PX 64u
#define CHANNELS_MAX 4u

enum colour { MONO, BAYER_RG, RGB, BGR, RGBA, YCBYCR };

struct format {
    uint32_t pfnc;
    enum colour colour;
    enum storage storage;
};

static const struct format formats[] = {
    {PFNC_MONO8, MONO, STORAGE_8},           {0x01100003u, MONO, STORAGE_10},
    {0x010A0046u, MONO, STORAGE_10P},        {0x010C0004u, MONO, STORAGE_10_PACKED},
    {0x01100005u, MONO, STORAGE_12},         {0x010C0047u, MONO, STORAGE_12P},
    {0x010C0006u, MONO, STORAGE_12_PACKED},  {0x01100007u, MONO, STORAGE_16},
    {0x01080009u, BAYER_RG, STORAGE_8},      {0x01100011u, BAYER_RG, STORAGE_12},
    {0x010C0059u, BAYER_RG, STORAGE_12P},    {0x010C002Bu, BAYER_RG, STORAGE_12_PACKED},
    {PFNC_RGB8, RGB, STORAGE_8},             {0x02180015u, BGR, STORAGE_8},
    {0x02200016u, RGBA, STORAGE_8},          {0x0210003Bu, YCBYCR, STORAGE_8},
};

static const struct format *find(uint32_t pfnc) {
    for (size_t i = 0; i < sizeof formats / sizeof formats[0]; ++i)
        if (formats[i].pfnc == pfnc) return &formats[i];
    return NULL;
}

bool has_format(uint32_t pfnc, bool is_colour) {
    const struct format *format = find(pfnc);
    return format != NULL && (format->colour == MONO || is_colour);
}

size_t row_bytes(uint32_t format, uint32_t width_px) {
    /* A PFNC value has its bits per pixel, as stored, in bits 16 to 23. */
    return ((size_t)width_px * (format >> 16 & 0xFFu) + 7) / 8;
}

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

/* ITU-R BT.601 luma, rounded. */
static uint8_t luma(const uint8_t *rgb) {
    return (uint8_t)((299u * rgb[0] + 587u * rgb[1] + 114u * rgb[2] + 500u) / 1000u);
}

/* Full-range BT.601 chroma of one pixel. */
static double chroma(const uint8_t *rgb, const double weights[3]) {
    return 128.0 + weights[0] * rgb[0] + weights[1] * rgb[1] + weights[2] * rgb[2];
}

static uint8_t rounded(double value) {
    return (uint8_t)(value < 0.0 ? 0.0 : value > 255.0 ? 255.0 : floor(value + 0.5));
}

static void to_ycbycr(const uint8_t *rgb, uint8_t *target, uint32_t count) {
    static const double cb[3] = {-0.168736, -0.331264, 0.5}, cr[3] = {0.5, -0.418688, -0.081312};
    for (uint32_t x = 0; x < count; ++x) {
        const uint8_t *first = rgb + 3 * (x & ~1u);
        const uint8_t *second = (x | 1u) < count ? first + 3 : first;
        const double *weights = (x & 1u) != 0 ? cr : cb;
        target[2 * x] = luma(rgb + 3 * x);
        target[2 * x + 1] = rounded((chroma(first, weights) + chroma(second, weights)) / 2);
    }
}

static uint32_t to_rgb(const uint8_t *rgb, uint8_t *target, uint32_t count, enum colour colour) {
    uint32_t channels = colour == RGBA ? 4 : 3;
    for (uint32_t x = 0; x < count; ++x)
        for (uint32_t channel = 0; channel < channels; ++channel)
            target[channels * x + channel] =
                channel == 3 ? 255 : rgb[3 * x + (colour == BGR ? 2 - channel : channel)];
    return channels * count;
}

/* Pixels of the source as 8-bit samples of a colour; returns how many samples. */
static uint32_t sample(const uint8_t *source, bool is_grey, uint8_t *target, uint32_t count, enum colour colour,
                       uint32_t x_px, uint32_t y_px) {
    if (is_grey) {
        memcpy(target, source, count);
        return count;
    }
    switch (colour) {
    case MONO:
        for (uint32_t x = 0; x < count; ++x) target[x] = luma(source + 3 * x);
        return count;
    case BAYER_RG:
        /* RGGB counted from the sensor's corner: channel 0 on even rows and columns, 2 on odd ones, else 1. */
        for (uint32_t x = 0; x < count; ++x) target[x] = source[3 * x + (y_px & 1u) + ((x_px + x) & 1u)];
        return count;
    case YCBYCR:
        to_ycbycr(source, target, count);
        return 2 * count;
    default:
        return to_rgb(source, target, count, colour);
    }
}

static void render_row(const struct rendering *job, const struct format *format, const uint8_t *brightness,
                       uint8_t *target, uint32_t row) {
    uint8_t samples[CHANNELS_MAX * BLOCK_PX];
    const struct region *region = &job->region;
    bool is_grey = job->source_format == PFNC_MONO8;
    uint32_t source_pixel_bytes = is_grey ? 1 : 3;
    size_t first = (size_t)(region->y_px + row) * job->source_width_px + region->x_px;
    for (uint32_t x = 0; x < region->width_px; x += BLOCK_PX) {
        uint32_t count = region->width_px - x < BLOCK_PX ? region->width_px - x : BLOCK_PX;
        const uint8_t *source = job->source + (first + x) * source_pixel_bytes;
        uint32_t sample_count =
            sample(source, is_grey, samples, count, format->colour, region->x_px + x, region->y_px + row);
        for (uint32_t i = 0; i < sample_count; ++i) samples[i] = brightness[samples[i]];
        pack(samples, sample_count, format->storage, target + row_bytes(job->format, x));
    }
}

void render(const struct rendering *job, uint8_t *image, uint32_t first, uint32_t end) {
    uint8_t brightness[256];
    bool is_plain = !fill_brightness(brightness, job->exposure_us, job->gain_db) && job->format == job->source_format;
    const struct format *format = find(job->format);
    size_t bytes = row_bytes(job->format, job->region.width_px);
    for (uint32_t row = first; row < end; ++row) {
        size_t pixel = (size_t)(job->region.y_px + row) * job->source_width_px + job->region.x_px;
        if (is_plain)
            memcpy(image + row * bytes, job->source + row_bytes(job->source_format, 1) * pixel, bytes);
        else
            render_row(job, format, brightness, image + row * bytes, row);
    }
}
