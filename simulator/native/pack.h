/* How samples lie in a row (GenICam PFNC; "Packed" is GigE Vision's). */
#ifndef REPLAY_PACK_H
#define REPLAY_PACK_H

#include <stdint.h>

enum storage {
    STORAGE_8,
    STORAGE_10,
    STORAGE_12,
    STORAGE_16,
    STORAGE_10P,
    STORAGE_12P,
    STORAGE_10_PACKED,
    STORAGE_12_PACKED
};

/* Writes samples of 8 bits, widened so that white stays white. A group that is not full is filled up with zeros. */
void pack(const uint8_t *samples, uint32_t count, enum storage storage, uint8_t *target);

#endif
