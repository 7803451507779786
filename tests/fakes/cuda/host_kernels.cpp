// The kernels for the host, and where the fields of their arguments lie.
#include "host_shim.h"

#include "../../../edge/kernels.cu"

#include <cstddef>

HOST_KERNEL(preprocess, PreprocessArgs)
HOST_KERNEL(summarise, SummaryArgs)

#define OFFSET(STRUCT, FIELD) static_cast<unsigned>(offsetof(STRUCT, FIELD))

extern "C" const unsigned host_preprocess_offsets[] = {
    OFFSET(PreprocessArgs, raw),        OFFSET(PreprocessArgs, out),        OFFSET(PreprocessArgs, row_stride),
    OFFSET(PreprocessArgs, width),      OFFSET(PreprocessArgs, height),     OFFSET(PreprocessArgs, roi_x),
    OFFSET(PreprocessArgs, roi_y),      OFFSET(PreprocessArgs, roi_width),  OFFSET(PreprocessArgs, roi_height),
    OFFSET(PreprocessArgs, out_width),  OFFSET(PreprocessArgs, out_height), OFFSET(PreprocessArgs, storage),
    OFFSET(PreprocessArgs, colour),
};
extern "C" const unsigned host_summarise_offsets[] = {
    OFFSET(SummaryArgs, anomaly_map), OFFSET(SummaryArgs, image),           OFFSET(SummaryArgs, mask),
    OFFSET(SummaryArgs, tile_maxima), OFFSET(SummaryArgs, quality),         OFFSET(SummaryArgs, pixel_threshold),
    OFFSET(SummaryArgs, width),       OFFSET(SummaryArgs, height),
};
