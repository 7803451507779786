#include "pack.h"

#include <string.h>

static uint32_t bits_of(enum storage storage) {
    switch (storage) {
    case STORAGE_10:
    case STORAGE_10P:
    case STORAGE_10_PACKED:
        return 10;
    case STORAGE_16:
        return 16;
    default:
        return 12;
    }
}

/* The top 8 bits are the sample, those below repeat it. */
static uint32_t widened(uint8_t sample, uint32_t bits) { return ((uint32_t)sample << 8 | sample) >> (16 - bits); }

static void pack_words(const uint8_t *samples, uint32_t count, uint32_t bits, uint8_t *target) {
    for (uint32_t i = 0; i < count; ++i) {
        uint32_t value = widened(samples[i], bits);
        *target++ = (uint8_t)value;
        *target++ = (uint8_t)(value >> 8);
    }
}

/* One stream of bits, the least significant first. */
static void pack_stream(const uint8_t *samples, uint32_t count, uint32_t bits, uint8_t *target) {
    uint32_t pending = 0, pending_bits = 0;
    for (uint32_t i = 0; i < count; ++i) {
        pending |= widened(samples[i], bits) << pending_bits;
        for (pending_bits += bits; pending_bits >= 8; pending_bits -= 8, pending >>= 8) *target++ = (uint8_t)pending;
    }
    if (pending_bits > 0) *target = (uint8_t)pending;
}

/* Two samples in three bytes: the first's top 8 bits, the lower bits of both, the second's top 8 bits. */
static void pack_pairs(const uint8_t *samples, uint32_t count, uint32_t bits, uint8_t *target) {
    uint32_t low = bits - 8, mask = (1u << low) - 1;
    for (uint32_t i = 0; i < count; i += 2) {
        uint32_t first = widened(samples[i], bits);
        *target++ = (uint8_t)(first >> low);
        *target++ = (uint8_t)(first & mask);
        if (i + 1 == count) break;
        uint32_t second = widened(samples[i + 1], bits);
        target[-1] = (uint8_t)(target[-1] | (second & mask) << 4);
        *target++ = (uint8_t)(second >> low);
    }
}

void pack(const uint8_t *samples, uint32_t count, enum storage storage, uint8_t *target) {
    switch (storage) {
    case STORAGE_8:
        memcpy(target, samples, count);
        break;
    case STORAGE_10:
    case STORAGE_12:
    case STORAGE_16:
        pack_words(samples, count, bits_of(storage), target);
        break;
    case STORAGE_10P:
    case STORAGE_12P:
        pack_stream(samples, count, bits_of(storage), target);
        break;
    case STORAGE_10_PACKED:
    case STORAGE_12_PACKED:
        pack_pairs(samples, count, bits_of(storage), target);
        break;
    }
}
