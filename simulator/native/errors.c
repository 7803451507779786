#include "producer.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static _Thread_local GC_ERROR last_code = GC_ERR_SUCCESS;
static _Thread_local char last_text[256] = "no error";

GC_ERROR fail(GC_ERROR code, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(last_text, sizeof last_text, format, arguments);
    va_end(arguments);
    last_code = code;
    return code;
}

GC_API GCGetLastError(GC_ERROR *code, char *text, size_t *size) {
    if (code == NULL || size == NULL) return GC_ERR_INVALID_PARAMETER;
    size_t needed = strlen(last_text) + 1;
    *code = last_code;
    if (text != NULL && *size < needed) return GC_ERR_BUFFER_TOO_SMALL;
    if (text != NULL) memcpy(text, last_text, needed);
    *size = needed;
    return GC_ERR_SUCCESS;
}
