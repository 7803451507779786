/* A camera is one file: a control header that the producer and the test bench share through mmap, then the
 * images. Fields marked "bench" are written by the test bench only, "device" by the producer only. */
#ifndef REPLAY_CAMERA_FILE_H
#define REPLAY_CAMERA_FILE_H

#include "render.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CAMERA_FILE_MAGIC "REPLAYCM"
#define CAMERA_FILE_VERSION 1
#define CAMERA_NAME_BYTES 64
#define CAMERA_LOG_ENTRIES 1024

enum camera_link {
    LINK_OFFLINE = 0, /* ports fail, waiting events abort */
    LINK_ONLINE = 1,
    LINK_SILENT = 2, /* ports fail, waiting events only time out */
    LINK_LOST = 3    /* ports fail, the host's event tells so, waiting for a buffer only times out */
};

enum frame_fate {
    FATE_DELIVERED = 0,
    FATE_INCOMPLETE = 1,
    FATE_DROPPED = 2,
    FATE_UNDERRUN = 3,
    FATE_DUPLICATE = 4,
    FATE_STALE = 5,
    FATE_TORN = 6,
    FATE_SHORT = 7
};

/* StreamBufferHandlingMode, which frames a client gets when it is slower than the camera. */
enum buffer_handling { OLDEST_FIRST = 0, OLDEST_FIRST_OVERWRITE = 1, NEWEST_ONLY = 2 };

/* What a user set keeps. */
struct camera_settings {
    struct region region;
    uint32_t pixel_format;
    uint32_t trigger_is_on;
    uint32_t trigger_source;
    uint32_t trigger_on_falling_edge; /* a pulse has both edges, so this is stored and changes nothing */
    uint32_t exposure_is_automatic;
    uint32_t chunk_mode_is_active;
    uint32_t chunks; /* a bit for each enum chunk that is enabled */
    uint32_t reserved;
    double frame_rate_hz;
    double exposure_us; /* unless it is automatic */
    double gain_db;
};

struct camera_log_entry {
    _Atomic uint64_t sequence; /* position in the log + 1; written last */
    uint64_t frame_id;
    uint64_t timestamp_ns; /* CLOCK_MONOTONIC at the start of the exposure */
    uint32_t image_index;
    uint32_t fate;
    uint32_t acquisition; /* number of the AcquisitionStart that the frame id counts from */
    uint32_t reserved;
};

struct camera_header {
    char magic[8];
    uint32_t version;
    uint32_t header_bytes;
    uint32_t width;
    uint32_t height;
    uint32_t pixel_format; /* PFNC value of the stored images: Mono8 or RGB8 */
    uint32_t image_count;
    uint64_t image_bytes;
    uint64_t image_offset;
    char serial[CAMERA_NAME_BYTES];
    char user_id[CAMERA_NAME_BYTES]; /* the one name that the device may rewrite (DeviceUserID) */
    char vendor[CAMERA_NAME_BYTES];
    char model[CAMERA_NAME_BYTES];
    uint8_t reserved_identity[208];

    _Atomic uint32_t link;       /* bench: enum camera_link */
    _Atomic uint32_t link_epoch; /* bench: counts losses, so that a short one is not overlooked */
    _Atomic uint32_t stall;      /* bench: 1 = triggers have no effect */
    _Atomic uint32_t drop_every; /* bench: every n-th frame is lost, 0 = none */
    _Atomic uint32_t incomplete_every; /* bench: every n-th frame arrives in part, 0 = none */
    _Atomic uint32_t line0_pulses;     /* bench: counts pulses on Line0 */
    _Atomic uint32_t duplicate_every;  /* bench: every n-th frame is the one before once more, 0 = none */
    _Atomic uint32_t stale_every;      /* bench: every n-th frame shows the past, 0 = none */
    _Atomic uint32_t torn_every;       /* bench: every n-th frame lacks rows and does not say so, 0 = none */
    _Atomic uint32_t short_every;      /* bench: every n-th frame lacks its last row and does not say so, 0 = none */
    _Atomic uint32_t feature_delay_ms; /* bench: how long every access to a feature takes */
    _Atomic uint32_t crash;            /* both: 1 = the next exposure ends the process; cleared when it does */
    _Atomic uint32_t frame_id_bits;    /* bench: 16 = frame ids wrap from 65535 to 0, 0 = they never wrap */
    _Atomic uint32_t first_frame_id;   /* bench: of each acquisition */
    _Atomic uint32_t auto_exposure_us; /* bench: what ExposureAuto arrives at; 0 = ExposureTime as it was */
    _Atomic uint32_t buffer_handling;  /* both: enum buffer_handling */
    uint8_t reserved_controls[192];

    _Atomic uint64_t cursor; /* both: the next image to be exposed */
    _Atomic uint64_t exposed; /* device, as all below */
    _Atomic uint64_t delivered;
    _Atomic uint64_t incomplete; /* of those delivered */
    _Atomic uint64_t dropped;
    _Atomic uint64_t underruns;
    _Atomic uint64_t ignored_triggers;
    _Atomic uint64_t acquisitions;
    _Atomic uint64_t log_count;
    _Atomic uint64_t discarded; /* of those delivered, for a newer one */
    struct camera_settings user_set;
    uint32_t user_set_is_saved;
    uint32_t user_set_default; /* the number of the set that an opened camera begins with */
    uint8_t reserved_state[96];

    struct camera_log_entry log[CAMERA_LOG_ENTRIES];
};

_Static_assert(offsetof(struct camera_header, link) == 512, "controls begin at 512");
_Static_assert(offsetof(struct camera_header, cursor) == 768, "state begins at 768");
_Static_assert(offsetof(struct camera_header, log) == 1024, "the log begins at 1024");

struct camera_file {
    struct camera_header *header; /* NULL when closed */
    const uint8_t *images;
    size_t mapped_bytes;
    int descriptor;
};

/* Maps a camera file; false when it is none, or of another version, or shorter than it says. */
bool camera_file_open(struct camera_file *file, const char *path);
void camera_file_close(struct camera_file *file);

/* Takes the camera for this process until it is closed; false when another process has it. */
bool camera_file_claim(struct camera_file *file);

/* The image under the camera, which then moves on to the next. */
uint32_t camera_file_next_image(struct camera_header *header);

void camera_file_log(struct camera_header *header, struct camera_log_entry entry);

#endif
