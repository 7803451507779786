#include "producer.h"

#include <string.h>

GC_ERROR answer_bytes(struct answer answer, INFO_DATATYPE type, const void *value, size_t bytes) {
    if (answer.size == NULL) return fail(GC_ERR_INVALID_PARAMETER, "the size must not be NULL");
    if (answer.type != NULL) *answer.type = type;
    if (answer.buffer != NULL && *answer.size < bytes)
        return fail(GC_ERR_BUFFER_TOO_SMALL, "%zu bytes where %zu are needed", *answer.size, bytes);
    if (answer.buffer != NULL) memcpy(answer.buffer, value, bytes);
    *answer.size = bytes;
    return GC_ERR_SUCCESS;
}

GC_ERROR answer_string(struct answer answer, const char *text) {
    return answer_bytes(answer, INFO_DATATYPE_STRING, text, strlen(text) + 1);
}

GC_ERROR answer_bool8(struct answer answer, bool value) {
    bool8_t byte = value;
    return answer_bytes(answer, INFO_DATATYPE_BOOL8, &byte, sizeof byte);
}

GC_ERROR answer_int32(struct answer answer, int32_t value) {
    return answer_bytes(answer, INFO_DATATYPE_INT32, &value, sizeof value);
}

GC_ERROR answer_uint32(struct answer answer, uint32_t value) {
    return answer_bytes(answer, INFO_DATATYPE_UINT32, &value, sizeof value);
}

GC_ERROR answer_uint64(struct answer answer, uint64_t value) {
    return answer_bytes(answer, INFO_DATATYPE_UINT64, &value, sizeof value);
}

GC_ERROR answer_size(struct answer answer, size_t value) {
    return answer_bytes(answer, INFO_DATATYPE_SIZET, &value, sizeof value);
}

GC_ERROR answer_pointer(struct answer answer, void *value) {
    return answer_bytes(answer, INFO_DATATYPE_PTR, &value, sizeof value);
}

GC_ERROR give_handle(void **target, void *handle) {
    if (target == NULL) return fail(GC_ERR_INVALID_PARAMETER, "the handle must not be NULL");
    *target = handle;
    return GC_ERR_SUCCESS;
}

GC_ERROR give_count(uint32_t *target, uint32_t count) {
    if (target == NULL) return fail(GC_ERR_INVALID_PARAMETER, "the count must not be NULL");
    *target = count;
    return GC_ERR_SUCCESS;
}
