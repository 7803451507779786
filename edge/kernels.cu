// What the GPU does to a frame before and after the network: raw rows -> input, anomaly map -> mask, maxima and quality.
// Each kernel takes one structure, by value. Compiled by nvcc, and for tests by a C++ compiler.

struct PreprocessArgs {
    const unsigned char *raw;  // height rows, row_stride bytes from one to the next, at any alignment
    unsigned char *out;        // (out_height, out_width, 3), RGB
    int row_stride, width, height, roi_x, roi_y, roi_width, roi_height, out_width, out_height, storage, colour;
};

struct SummaryArgs {
    const float *anomaly_map;          // (height, width)
    const unsigned char *image;        // (height, width, 3), RGB
    unsigned char *mask;               // (height, width): 1 where the map reaches the threshold
    unsigned int *tile_maxima;         // (ceil(height / 16), ceil(width / 16)): bits of floats; NaN where a tile has one
    unsigned long long *quality;       // sums of grey, its Laplacian, and that squared; added to
    float pixel_threshold;
    int width, height;
};

namespace {

enum Storage { BITS_8, BITS_10, BITS_12, BITS_16, P_10, P_12, GVSP_10, GVSP_12 };
enum Colour { MONO, BAYER_RG, BAYER_GR, BAYER_GB, BAYER_BG, RGB, BGR, RGBA, YCBYCR };

// ---------------------------------------------------------------------------------------------------------------------
// preprocess
//
// Resizing weighs rows and columns apart, and so does bilinear demosaicing. Hence one block makes a segment of one row
// of the output: every thread adds up its own columns of raw samples, weighted by row; what that gives, one number per
// column and plane, is then weighted by column. Every raw sample is loaded once per row of the output that it reaches.

constexpr int THREADS = 128;               // of a block
constexpr int QUAD = 4;                    // columns of a thread; one 32-bit word of 8-bit samples
constexpr int COLUMNS = QUAD * THREADS;    // that a block adds up at a time
constexpr int TILE = COLUMNS - 2 * QUAD;   // of which it weighs, as demosaicing needs the neighbours
constexpr int ROWS = 64;                   // whose weights are kept at a time; a multiple of 4

struct RowWeights {
    float plain;   // in a resized image without demosaicing
    float colour;  // of red or blue: also what the rows above and below take from it
    float green;   // the same for green
    float cross;   // what the columns to the left and right take
};

struct PreprocessWorkspace {
    RowWeights rows[ROWS];
    float columns[3][COLUMNS + COLUMNS / 32];
    float totals[3][THREADS];
};

// Without the gap after every 32, threads that read columns 8 or 16 apart would wait for each other.
__device__ __forceinline__ int place(int column) { return column + (column >> 5); }

// Of numbers that are not negative; the quotient below 2^20. Cheaper than the division of integers.
struct Divisor {
    int value;
    float reciprocal;

    __device__ __forceinline__ explicit Divisor(int value)
        : value(value), reciprocal(__fdividef(1.0f, static_cast<float>(value))) {}

    __device__ __forceinline__ int into(int dividend) const {
        const int guess = static_cast<int>(static_cast<float>(dividend) * reciprocal);
        const int rest = dividend - guess * value;
        return guess + (rest >= value) - (rest < 0);
    }
};

// One direction of crop and resize: area averaging, or bilinear with the ends repeated. In whole numbers, hence exact.
// Pixels of the output are `o`, of the raw image `x`; lengths are in units of which a pixel of the raw image has `units`.
struct Axis {
    int roi, in, size, edge;
    Divisor units;
    int reach;  // of a pixel of the output, from where it begins; and the sum of its weights
    int pitch, phase;

    __device__ __forceinline__ Axis(int roi, int in, int size, int out, int edge, bool is_area)
        : roi(roi), in(in), size(size), edge(edge), units(is_area ? out : 2 * out), reach(is_area ? in : 2 * out),
          pitch(is_area ? in : 2 * in), phase(is_area ? 0 : in - out) {}

    __device__ __forceinline__ int from(int o) const { return min(max(o * pitch + phase, 0), units.value * (in - 1)); }
    __device__ __forceinline__ int first(int o) const { return roi + units.into(from(o)); }
    __device__ __forceinline__ int last(int o) const { return roi + units.into(from(o) + reach - 1); }

    // By areas, what a pixel of the raw image and one of the output share; else a triangle.
    __device__ __forceinline__ int weight(int o, int x) const {
        const int ahead = (x - roi) * units.value - from(o);
        return max(min(units.value, min(ahead + units.value, reach - ahead)), 0);
    }

    // The demosaiced pixel that stands at x: the outermost repeat their inner neighbours.
    __device__ __forceinline__ int inner(int x) const { return min(max(x, edge), size - 1 - edge); }

    // The share of all that the demosaiced pixel stands at.
    __device__ __forceinline__ float inner_share(int o, int x) const {
        if (x != inner(x)) return 0.0f;
        int sum = weight(o, x);
        if (x == edge && edge > 0) sum += weight(o, 0);
        if (x == size - 1 - edge && edge > 0) sum += weight(o, size - 1);
        return static_cast<float>(sum) / static_cast<float>(reach);
    }
};

__device__ __forceinline__ float byte_of(unsigned word, int i) { return static_cast<float>((word >> (8 * i)) & 0xFFu); }

// Four samples of one storage: how many bytes, and their top 8 bits in one word.
template <int STORAGE>
struct Samples {
    static constexpr int BYTES = STORAGE == BITS_8 ? 4 : STORAGE <= BITS_16 ? 8 : STORAGE == P_10 ? 5 : 6;

    __device__ static __forceinline__ unsigned top(const unsigned (&words)[(BYTES + 3) / 4]) {
        if constexpr (STORAGE == BITS_8) {
            return words[0];
        } else if constexpr (STORAGE <= BITS_16) {
            constexpr int SHIFT = STORAGE == BITS_10 ? 2 : STORAGE == BITS_12 ? 4 : 8;
            return __byte_perm(words[0] >> SHIFT, words[1] >> SHIFT, 0x6420);
        } else if constexpr (STORAGE == P_10) {
            return ((words[0] >> 2) & 0xFFu) | ((words[0] >> 4) & 0xFF00u) | ((words[0] >> 6) & 0xFF0000u) | (words[1] << 24);
        } else if constexpr (STORAGE == P_12) {
            return ((words[0] >> 4) & 0xFFu) | ((words[0] >> 8) & 0xFF00u) |
                   ((__funnelshift_r(words[0], words[1], 28) & 0xFFu) << 16) | ((words[1] << 16) & 0xFF000000u);
        } else {
            return __byte_perm(words[0], words[1], 0x5320);
        }
    }
};

// What each kind of pixel adds to the sums of a thread's four columns; `odd` tells rows from those where the samples of
// even columns are red or blue.
template <int STORAGE>
struct Mono {
    static constexpr int BYTES = Samples<STORAGE>::BYTES;

    __device__ static __forceinline__ void add(const unsigned (&words)[(BYTES + 3) / 4], const RowWeights &row, int,
                                               float (&sums)[3][QUAD]) {
        const unsigned samples = Samples<STORAGE>::top(words);
#pragma unroll
        for (int i = 0; i < QUAD; ++i) sums[0][i] += row.plain * byte_of(samples, i);
    }
};

template <int STORAGE>
struct Bayer {
    static constexpr int BYTES = Samples<STORAGE>::BYTES;

    __device__ static __forceinline__ void add(const unsigned (&words)[(BYTES + 3) / 4], const RowWeights &row, int odd,
                                               float (&sums)[3][QUAD]) {
        const unsigned samples = Samples<STORAGE>::top(words);
#pragma unroll
        for (int i = 0; i < QUAD; ++i) {
            const float sample = byte_of(samples, i);
            if ((i & 1) == odd) {
                sums[0][i] += row.colour * sample;
            } else {
                sums[1][i] += row.green * sample;
                sums[2][i] += row.cross * sample;
            }
        }
    }
};

template <int PIXEL_BYTES, int RED, int BLUE>
struct Interleaved {
    static constexpr int BYTES = QUAD * PIXEL_BYTES;

    __device__ static __forceinline__ void add(const unsigned (&words)[(BYTES + 3) / 4], const RowWeights &row, int,
                                               float (&sums)[3][QUAD]) {
        constexpr int ORDER[3] = {RED, 1, BLUE};
#pragma unroll
        for (int i = 0; i < QUAD; ++i) {
#pragma unroll
            for (int plane = 0; plane < 3; ++plane) {
                const int at = PIXEL_BYTES * i + ORDER[plane];
                sums[plane][i] += row.plain * byte_of(words[at / 4], at % 4);
            }
        }
    }
};

// Full-range BT.601: two pixels share a Cb and a Cr. In OpenCV's fixed point, as the host does it.
struct YCbCr422 {
    static constexpr int BYTES = 2 * QUAD;

    __device__ static __forceinline__ void add(const unsigned (&words)[2], const RowWeights &row, int, float (&sums)[3][QUAD]) {
#pragma unroll
        for (int i = 0; i < QUAD; ++i) {
            const unsigned word = words[i / 2];
            const int y = (word >> 16 * (i % 2)) & 0xFF, cb = ((word >> 8) & 0xFF) - 128, cr = (word >> 24) - 128;
            sums[0][i] += row.plain * level(y + ((22987 * cr + 8192) >> 14));
            sums[1][i] += row.plain * level(y + ((-5636 * cb - 11698 * cr + 8192) >> 14));
            sums[2][i] += row.plain * level(y + ((29049 * cb + 8192) >> 14));
        }
    }

    __device__ static __forceinline__ float level(int value) { return static_cast<float>(min(max(value, 0), 255)); }
};

__device__ __forceinline__ RowWeights row_weights(const Axis &axis, int o, int y) {
    const float plain = axis.inner_share(o, y);
    const float around = axis.edge > 0 ? axis.inner_share(o, y - 1) + axis.inner_share(o, y + 1) : 0.0f;
    return {plain, plain + 0.5f * around, plain + 0.25f * around, 0.25f * plain};
}

// Where a thread finds its four columns in each row.
struct Quad {
    int offset, wanted;  // bytes: from the row's first, and how many of those of four columns the row has
};

// Rows may begin at any address, while words are loaded from aligned ones only, and none that holds no wanted byte.
// Every fourth row lies alike.
template <class Source>
__device__ __forceinline__ void add_rows(const PreprocessArgs &args, const RowWeights *weights, int start, int end, Quad quad,
                                         float (&sums)[3][QUAD]) {
    constexpr int WORDS = (Source::BYTES + 3) / 4, BATCH = WORDS == 1 ? 4 : 2;  // rows whose loads wait together
    const int skew = static_cast<int>(reinterpret_cast<unsigned long long>(args.raw) & 3);
    const unsigned *aligned = reinterpret_cast<const unsigned *>(args.raw - skew);
    int word[4], before[4];
#pragma unroll
    for (int k = 0; k < 4; ++k) {
        const int at = skew + quad.offset + (start + k) * args.row_stride;
        word[k] = at >> 2;
        before[k] = at & 3;
    }
#pragma unroll 1
    for (int i = 0; start + i < end; i += 4) {
#pragma unroll
        for (int batch = 0; batch < 4; batch += BATCH) {
            unsigned loaded[BATCH][WORDS + 1];
#pragma unroll
            for (int b = 0; b < BATCH; ++b) {
                const int k = batch + b;
                const bool is_row = static_cast<unsigned>(start + i + k) < static_cast<unsigned>(end);
                const unsigned *from = aligned + word[k];
#pragma unroll
                for (int w = 0; w <= WORDS; ++w) {
                    loaded[b][w] = is_row && (w == 0 || 4 * w < before[k] + quad.wanted) ? __ldg(from + w) : 0u;
                }
                word[k] += args.row_stride;
            }
#pragma unroll
            for (int b = 0; b < BATCH; ++b) {
                const int k = batch + b;
                unsigned words[WORDS];
#pragma unroll
                for (int w = 0; w < WORDS; ++w) words[w] = __funnelshift_r(loaded[b][w], loaded[b][w + 1], 8 * before[k]);
                Source::add(words, weights[i + k], k & 1, sums);
            }
        }
    }
}

// What kind of pixels a launch is about; the same for all its threads.
struct Kind {
    int storage, colour;

    __device__ __forceinline__ bool is_bayer() const { return colour >= BAYER_RG && colour <= BAYER_BG; }
    __device__ __forceinline__ int red_x() const { return colour == BAYER_GR || colour == BAYER_BG; }
    __device__ __forceinline__ int red_y() const { return colour == BAYER_GB || colour == BAYER_BG; }

    // Bytes of four columns.
    __device__ __forceinline__ int quad_bytes() const {
        if (colour == RGB || colour == BGR) return 12;
        if (colour == RGBA) return 16;
        if (colour == YCBYCR) return 8;
        return storage == BITS_8 ? 4 : storage <= BITS_16 ? 8 : storage == P_10 ? 5 : 6;
    }

    __device__ __forceinline__ void add(const PreprocessArgs &args, const RowWeights *weights, int start, int end, Quad quad,
                                        float (&sums)[3][QUAD]) const {
        if (is_bayer()) {
            switch (storage) {
                case BITS_8: return add_rows<Bayer<BITS_8>>(args, weights, start, end, quad, sums);
                case BITS_12: return add_rows<Bayer<BITS_12>>(args, weights, start, end, quad, sums);
                case P_12: return add_rows<Bayer<P_12>>(args, weights, start, end, quad, sums);
                default: return add_rows<Bayer<GVSP_12>>(args, weights, start, end, quad, sums);
            }
        }
        switch (colour) {
            case RGB: return add_rows<Interleaved<3, 0, 2>>(args, weights, start, end, quad, sums);
            case BGR: return add_rows<Interleaved<3, 2, 0>>(args, weights, start, end, quad, sums);
            case RGBA: return add_rows<Interleaved<4, 0, 2>>(args, weights, start, end, quad, sums);
            case YCBYCR: return add_rows<YCbCr422>(args, weights, start, end, quad, sums);
            default: break;
        }
        switch (storage) {
            case BITS_8: return add_rows<Mono<BITS_8>>(args, weights, start, end, quad, sums);
            case BITS_10: return add_rows<Mono<BITS_10>>(args, weights, start, end, quad, sums);
            case BITS_12: return add_rows<Mono<BITS_12>>(args, weights, start, end, quad, sums);
            case BITS_16: return add_rows<Mono<BITS_16>>(args, weights, start, end, quad, sums);
            case P_10: return add_rows<Mono<P_10>>(args, weights, start, end, quad, sums);
            case P_12: return add_rows<Mono<P_12>>(args, weights, start, end, quad, sums);
            default: return add_rows<Mono<GVSP_12>>(args, weights, start, end, quad, sums);
        }
    }
};

// One column of the image, weighted.
__device__ __forceinline__ void add_column(const PreprocessWorkspace &work, const Kind &kind, int x, int origin, float weight,
                                           float (&totals)[3]) {
    const int here = place(x - origin);
    if (kind.is_bayer()) {
        const int before = place(x - origin - 1), after = place(x - origin + 1);
        const float own = work.columns[0][here], other = 0.5f * (work.columns[0][before] + work.columns[0][after]);
        const bool has_red = ((x ^ kind.red_x()) & 1) == 0;
        totals[0] += weight * (has_red ? own : other);
        totals[1] += weight * (work.columns[1][here] + work.columns[2][before] + work.columns[2][after]);
        totals[2] += weight * (has_red ? other : own);
    } else {
#pragma unroll
        for (int plane = 0; plane < 3; ++plane) totals[plane] += weight * work.columns[plane][here];
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// summarise

constexpr int SIDE = 16;  // of a tile; one block each

struct SummaryWorkspace {
    int grey[SIDE + 2][SIDE + 2];
    float maxima[SIDE * SIDE];
    int sums[3][SIDE * SIDE];
};

__device__ __forceinline__ int reflected(int i, int size) {
    if (i < 0) i = -i;
    if (i >= size) i = 2 * size - 2 - i;
    return min(max(i, 0), size - 1);
}

__device__ __forceinline__ int grey_of(const unsigned char *rgb) {
    return (9798 * rgb[0] + 19235 * rgb[1] + 3735 * rgb[2] + (1 << 14)) >> 15;
}

// The larger; NaN if either is.
__device__ __forceinline__ float larger(float a, float b) { return a != a || a > b ? a : b; }

}  // namespace

// Grid (segments of a row, out_height), THREADS threads a block.
extern "C" __global__ void __launch_bounds__(THREADS, 7) preprocess(PreprocessArgs args) {
    __shared__ PreprocessWorkspace work;
    const Kind kind{args.storage, args.colour};
    const int edge = kind.is_bayer();  // on each side, columns and rows that demosaicing leaves out
    const bool is_area = args.roi_width >= args.out_width && args.roi_height >= args.out_height;
    const Axis across{args.roi_x, args.roi_width, args.width, args.out_width, edge, is_area};
    const Axis down{args.roi_y, args.roi_height, args.height, args.out_height, edge, is_area};
    const int thread = static_cast<int>(threadIdx.x), out_y = static_cast<int>(blockIdx.y);

    // This block's pixels of the output, and how many threads share the columns of each.
    const int segments = static_cast<int>(gridDim.x), longest = Divisor(segments).into(args.out_width + segments - 1);
    const int out_x = static_cast<int>(blockIdx.x) * longest, pixels = min(longest, args.out_width - out_x);
    if (pixels <= 0) return;
    const Divisor among(pixels);
    const int sharers = among.into(THREADS), share = among.into(thread);
    const int pixel = out_x + thread - share * pixels;
    const int last = share < sharers ? across.last(pixel) : -1;
    int next = across.first(pixel) + share;

    // The rows that reach them, from one of the parity that `add` expects.
    const int above = down.inner(down.first(out_y)) - edge, below = down.inner(down.last(out_y)) + edge;
    const int top = above - (edge & (above + kind.red_x() + kind.red_y()));
    const int row_bytes = (args.width * kind.quad_bytes() + QUAD - 1) / QUAD;
    const int begin = across.inner(across.first(out_x)), end = across.inner(across.last(out_x + pixels - 1)) + 1;

    float totals[3] = {};
    for (int tile = begin; tile < end; tile += TILE) {
        const int origin = (tile - edge) & ~(QUAD - 1), tile_end = min(tile + TILE, end);
        const int column = origin + QUAD * thread, offset = column / QUAD * kind.quad_bytes();
        const Quad quad{offset, min(row_bytes - offset, kind.quad_bytes())};
        float sums[3][QUAD] = {};
        for (int start = top; start <= below; start += ROWS) {
            __syncthreads();
            const int count = min(ROWS, below + 1 - start);
            if (thread < (count + 3) / 4 * 4) work.rows[thread] = row_weights(down, out_y, start + thread);
            __syncthreads();
            if (column < tile_end + edge && quad.wanted > 0) {
                kind.add(args, work.rows, start, start + count, quad, sums);
            }
        }
#pragma unroll
        for (int plane = 0; plane < 3; ++plane) {
#pragma unroll
            for (int i = 0; i < QUAD; ++i) work.columns[plane][place(QUAD * thread + i)] = sums[plane][i];
        }
        __syncthreads();
        for (; next <= last && across.inner(next) < tile_end; next += sharers) {
            add_column(work, kind, across.inner(next), origin, static_cast<float>(across.weight(pixel, next)), totals);
        }
    }
#pragma unroll
    for (int plane = 0; plane < 3; ++plane) work.totals[plane][thread] = totals[args.colour == MONO ? 0 : plane];
    __syncthreads();
    unsigned char *out = args.out + 3 * (static_cast<long long>(out_y) * args.out_width + out_x);
    for (int i = thread; i < 3 * pixels; i += THREADS) {
        float total = 0.0f;
        for (int k = 0; k < sharers; ++k) total += work.totals[i % 3][i / 3 + k * pixels];
        out[i] = static_cast<unsigned char>(min(static_cast<int>(total / static_cast<float>(across.reach) + 0.5f), 255));
    }
}

// Grid (ceil(width / 16), ceil(height / 16)), 16 x 16 threads a block.
extern "C" __global__ void __launch_bounds__(SIDE * SIDE) summarise(SummaryArgs args) {
    __shared__ SummaryWorkspace work;
    const int column = static_cast<int>(threadIdx.x), row = static_cast<int>(threadIdx.y);
    const int x0 = static_cast<int>(blockIdx.x) * SIDE, y0 = static_cast<int>(blockIdx.y) * SIDE;
    const int thread = row * SIDE + column, x = x0 + column, y = y0 + row;
    const bool is_inside = x < args.width && y < args.height;
    for (int i = thread; i < (SIDE + 2) * (SIDE + 2); i += SIDE * SIDE) {
        const int at_x = reflected(x0 + i % (SIDE + 2) - 1, args.width), at_y = reflected(y0 + i / (SIDE + 2) - 1, args.height);
        work.grey[i / (SIDE + 2)][i % (SIDE + 2)] = grey_of(args.image + 3 * (static_cast<long long>(at_y) * args.width + at_x));
    }
    // Outside, the tile's first value stands in: it changes no maximum.
    const long long at = is_inside ? static_cast<long long>(y) * args.width + x : static_cast<long long>(y0) * args.width + x0;
    const float value = args.anomaly_map[at];
    if (is_inside) args.mask[at] = value >= args.pixel_threshold;
    work.maxima[thread] = value;
    __syncthreads();
    const int grey = work.grey[row + 1][column + 1];
    const int laplacian = work.grey[row][column + 1] + work.grey[row + 2][column + 1] + work.grey[row + 1][column] +
                          work.grey[row + 1][column + 2] - 4 * grey;
    work.sums[0][thread] = is_inside ? grey : 0;
    work.sums[1][thread] = is_inside ? laplacian : 0;
    work.sums[2][thread] = is_inside ? laplacian * laplacian : 0;
    for (int half = SIDE * SIDE / 2; half > 0; half /= 2) {
        __syncthreads();
        if (thread < half) {
            work.maxima[thread] = larger(work.maxima[thread], work.maxima[thread + half]);
            for (int i = 0; i < 3; ++i) work.sums[i][thread] += work.sums[i][thread + half];
        }
    }
    if (thread == 0) args.tile_maxima[blockIdx.y * gridDim.x + blockIdx.x] = __float_as_uint(work.maxima[0]);
    if (thread == 0) {
        for (int i = 0; i < 3; ++i) {
            atomicAdd(args.quality + i, static_cast<unsigned long long>(static_cast<long long>(work.sums[i][0])));
        }
    }
}
