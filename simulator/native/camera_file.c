#include "camera_file.h"

#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static bool is_terminated(const char *name) { return memchr(name, '\0', CAMERA_NAME_BYTES) != NULL; }

static bool is_valid(const struct camera_header *header, uint64_t file_bytes) {
    if (memcmp(header->magic, CAMERA_FILE_MAGIC, sizeof header->magic) != 0) return false;
    if (header->version != CAMERA_FILE_VERSION || header->header_bytes != sizeof *header) return false;
    if (!is_terminated(header->serial) || !is_terminated(header->user_id)) return false;
    if (!is_terminated(header->vendor) || !is_terminated(header->model)) return false;
    if (header->image_count == 0 || header->image_bytes == 0) return false;
    if (header->image_offset < sizeof *header || header->image_offset > file_bytes) return false;
    return header->image_bytes <= (file_bytes - header->image_offset) / header->image_count;
}

bool camera_file_open(struct camera_file *file, const char *path) {
    struct stat status;
    *file = (struct camera_file){.descriptor = open(path, O_RDWR | O_CLOEXEC)};
    if (file->descriptor < 0) return false;
    if (fstat(file->descriptor, &status) == 0 && status.st_size >= (off_t)sizeof(struct camera_header)) {
        file->mapped_bytes = (size_t)status.st_size;
        void *mapping = mmap(NULL, file->mapped_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file->descriptor, 0);
        if (mapping != MAP_FAILED) file->header = mapping;
    }
    if (file->header == NULL || !is_valid(file->header, file->mapped_bytes)) {
        camera_file_close(file);
        return false;
    }
    file->images = (const uint8_t *)file->header + file->header->image_offset;
    return true;
}

void camera_file_close(struct camera_file *file) {
    if (file->header != NULL) munmap(file->header, file->mapped_bytes);
    if (file->descriptor >= 0) close(file->descriptor);
    *file = (struct camera_file){.descriptor = -1};
}

bool camera_file_claim(struct camera_file *file) { return flock(file->descriptor, LOCK_EX | LOCK_NB) == 0; }

uint32_t camera_file_next_image(struct camera_header *header) {
    uint64_t cursor = atomic_load(&header->cursor);
    /* The bench may put another image under the camera at any moment: then the exchange fails and its choice wins. */
    while (!atomic_compare_exchange_weak(&header->cursor, &cursor, (cursor + 1) % header->image_count)) continue;
    return (uint32_t)(cursor % header->image_count);
}

void camera_file_log(struct camera_header *header, struct camera_log_entry entry) {
    uint64_t count = atomic_load(&header->log_count);
    struct camera_log_entry *place = &header->log[count % CAMERA_LOG_ENTRIES];
    atomic_store(&place->sequence, 0);
    place->frame_id = entry.frame_id;
    place->timestamp_ns = entry.timestamp_ns;
    place->image_index = entry.image_index;
    place->fate = entry.fate;
    place->acquisition = entry.acquisition;
    atomic_store(&place->sequence, count + 1);
    atomic_store(&header->log_count, count + 1);
}
