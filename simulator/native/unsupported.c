/* Functions of the standard that this producer exports because it must and does not support: composite and
 * multi-part buffers, flows, and the stacked queries. */
#include "producer.h"

#pragma GCC diagnostic ignored "-Wunused-parameter"

static GC_ERROR unsupported(const char *function) {
    return fail(GC_ERR_NOT_IMPLEMENTED, "%s is not supported", function);
}

GC_API DSAnnounceCompositeBuffer(DS_HANDLE handle, size_t count, void **segments, size_t *sizes, void *user,
                                 BUFFER_HANDLE *buffer) {
    return unsupported(__func__);
}

GC_API DSGetBufferInfoStacked(DS_HANDLE handle, BUFFER_HANDLE buffer, DS_BUFFER_INFO_STACKED *infos, size_t count) {
    return unsupported(__func__);
}

GC_API DSGetNumBufferParts(DS_HANDLE handle, BUFFER_HANDLE buffer, uint32_t *count) {
    return unsupported(__func__);
}

GC_API DSGetBufferPartInfo(DS_HANDLE handle, BUFFER_HANDLE buffer, uint32_t index, BUFFER_PART_INFO_CMD command,
                           INFO_DATATYPE *type, void *value, size_t *size) {
    return unsupported(__func__);
}

GC_API DSGetBufferPartInfoStacked(DS_HANDLE handle, BUFFER_HANDLE buffer, DS_BUFFER_PART_INFO_STACKED *infos,
                                  size_t count) {
    return unsupported(__func__);
}

GC_API DSGetNumBufferSegments(DS_HANDLE handle, BUFFER_HANDLE buffer, uint32_t *count) {
    return unsupported(__func__);
}

GC_API DSGetBufferSegmentInfo(DS_HANDLE handle, BUFFER_HANDLE buffer, uint32_t index, SEGMENT_INFO_CMD command,
                              INFO_DATATYPE *type, void *value, size_t *size) {
    return unsupported(__func__);
}

GC_API DSGetNumFlows(DS_HANDLE handle, uint32_t *count) {
    return unsupported(__func__);
}

GC_API DSGetFlowInfo(DS_HANDLE handle, uint32_t index, FLOW_INFO_CMD command, INFO_DATATYPE *type, void *value,
                     size_t *size) {
    return unsupported(__func__);
}
