/* What conversion spends its time on, in one pass over a frame where it lies.

statistics.py, lanes.py and intensity.py say the same in NumPy: they are the fallback, and what
tests hold this file to, bit by bit. Whole numbers are summed exactly; real ones as docs/convert.md
says, which takes -ffp-contract=off and forbids -ffast-math. What this file offers has a number,
REVISION, here and in kernel.py.

No pointer leaves what PyObject_GetBuffer gave: shapes are the exporter's, sizes are checked against
them, and values are copied by memcpy, so that a slot may lie anywhere. The interpreter's lock is
let go of while pixels are touched. */

#define PY_SSIZE_T_CLEAN
#ifdef DICOM2CACHE_ABI3
#define Py_LIMITED_API 0x030B0000
#endif
#include <Python.h>

#include <float.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#include <immintrin.h>
#endif

#if defined(__FAST_MATH__) || FLT_EVAL_METHOD != 0
#error "sums in float64 that are rounded once each are needed"
#endif

#define INLINE static inline __attribute__((always_inline))
#define BLOCK 4096 /* values at a time: they stay in the first cache, and sums of them in 32 bits */
#define SHORT 64
#define LANES 64
#define MOST_CHANNELS 64

/* A frame: `pixels` of `channels` values each. */
typedef struct {
    char kind; /* of struct: B h H i f d */
    int width; /* bytes of a value */
    Py_ssize_t rows, columns, pixels, channels;
    char *data;
} Frame;

/* What makes values of stored bits: ((stored >> low & mask) ^ sign) - sign, times m, plus b. */
typedef struct {
    uint32_t low, mask, sign, m, b;
    uint32_t outside; /* bits that must not be set, but for the sign's extension */
} Line;

typedef struct {
    const Frame *frame;
    const Line *line;       /* NULL: the values are there */
    const uint8_t *padding; /* a byte for each pixel, or NULL */
    int32_t first, last;    /* values that are padding, if ranged */
    int ranged;
    int16_t one; /* 1, which the compiler must not know */
    /* found */
    Py_ssize_t count; /* values without padding */
    Py_ssize_t padded; /* pixels */
    int32_t least, most;
    int64_t total;
    uint64_t high, low; /* sums of the upper and lower 16 bits of squares */
    int others;         /* bits outside are set */
} Whole;

/* ---- whole numbers -------------------------------------------------------------------------- */

/* Adds n values (at most BLOCK) to what was found. Products of two 16-bit values that are added in
32 bits are one instruction (x86: pmaddwd), so sums are products with 1, and small values have
loops that are short enough for their squares. */
#define ADD(NAME, T, WIDE, SMALL)                                                                  \
    INLINE void NAME(Whole *w, const T *v, Py_ssize_t n) {                                         \
        const T one = w->one;                                                                      \
        T least = v[0], most = v[0];                                                               \
        WIDE total = 0;                                                                            \
        for (Py_ssize_t i = 0; i < n; i++) {                                                       \
            least = v[i] < least ? v[i] : least;                                                   \
            most = v[i] > most ? v[i] : most;                                                      \
        }                                                                                          \
        for (Py_ssize_t i = 0; i < n; i++) total += (WIDE)v[i] * (WIDE)one;                        \
        Py_ssize_t done = 0;                                                                       \
        if (least >= -SMALL && most <= SMALL)                                                      \
            for (; done + SHORT <= n; done += SHORT) {                                             \
                WIDE squares = 0;                                                                  \
                for (int k = 0; k < SHORT; k++) squares += (WIDE)v[done + k] * (WIDE)v[done + k];  \
                w->low += (uint64_t)squares;                                                       \
            }                                                                                      \
        uint32_t high = 0, low = 0;                                                                \
        for (; done < n; done++) {                                                                 \
            uint32_t square = (uint32_t)((WIDE)v[done] * (WIDE)v[done]);                           \
            low += square & 0xFFFF;                                                                \
            high += square >> 16;                                                                  \
        }                                                                                          \
        if (!w->count || least < w->least) w->least = least;                                       \
        if (!w->count || most > w->most) w->most = most;                                           \
        w->count += n;                                                                             \
        w->total += total;                                                                         \
        w->low += low;                                                                             \
        w->high += high;                                                                           \
    }
ADD(add_i16, int16_t, int32_t, 5792)   /* 64 * 5792^2 < 2^31 */
ADD(add_u16, uint16_t, uint32_t, 5792)

/* The same of bytes, whose squares fit in 32 bits in any number that is added at once. */
INLINE void add_u8(Whole *w, const uint8_t *v, Py_ssize_t n) {
    const uint8_t zero = (uint8_t)(w->one - 1);
    int16_t wide[BLOCK];
    uint8_t least = v[0], most = v[0];
    int32_t total = 0, squares = 0;
    for (Py_ssize_t i = 0; i < n; i++) {
        least = v[i] < least ? v[i] : least;
        most = v[i] > most ? v[i] : most;
    }
    for (Py_ssize_t i = 0; i < n; i++) wide[i] = v[i];
    for (Py_ssize_t i = 0; i < n; i++) total += abs((int32_t)v[i] - (int32_t)zero); /* psadbw */
    for (Py_ssize_t i = 0; i < n; i++) squares += (int32_t)wide[i] * (int32_t)wide[i];
    if (!w->count || least < w->least) w->least = least;
    if (!w->count || most > w->most) w->most = most;
    w->count += n;
    w->total += total;
    w->low += (uint64_t)squares;
}

/* Stored bits to values, in place. True if that changed the bits of any but as shifts do. */
#define APPLY(NAME, T)                                                                             \
    INLINE int NAME(const Line *line, T *v, Py_ssize_t n) {                                        \
        const T low = (T)line->low, mask = (T)line->mask, sign = (T)line->sign;                    \
        const T m = (T)line->m, b = (T)line->b;                                                    \
        T others = 0;                                                                              \
        if (low)                                                                                   \
            for (Py_ssize_t i = 0; i < n; i++) v[i] = (T)(v[i] >> low);                            \
        for (Py_ssize_t i = 0; i < n; i++) {                                                       \
            T value = (T)(((T)(v[i] & mask) ^ sign) - sign);                                       \
            others |= (T)(v[i] ^ value);                                                           \
            v[i] = (T)((T)(value * m) + b);                                                        \
        }                                                                                          \
        return low || others;                                                                      \
    }
APPLY(apply_8, uint8_t)
APPLY(apply_16, uint16_t)

/* True if bits are set in a stored value that must not be, but for the extension of its sign. */
#define OTHERS(NAME, T)                                                                            \
    INLINE int NAME(const Line *line, const char *place, Py_ssize_t n) {                           \
        const T low = (T)line->low, mask = (T)line->mask, sign = (T)line->sign;                    \
        for (Py_ssize_t i = 0; i < n; i++) {                                                       \
            T raw;                                                                                 \
            memcpy(&raw, place + i * sizeof raw, sizeof raw);                                      \
            T value = (T)(((T)((T)(raw >> low) & mask) ^ sign) - sign);                            \
            T other = raw & (T)line->outside;                                                      \
            T extended = (T)((T)(value << low) & (T)line->outside);                                \
            if (other && !(sign && other == extended)) return 1;                                   \
        }                                                                                          \
        return 0;                                                                                  \
    }
OTHERS(others_8, uint8_t)
OTHERS(others_16, uint16_t)

/* True if all stored values, masked, lie in [first, last]. */
#define FITS(NAME, T, S)                                                                           \
    INLINE int NAME(const Line *line, const T *v, Py_ssize_t n, int32_t first, int32_t last) {     \
        const T low = (T)line->low, mask = (T)line->mask, sign = (T)line->sign;                    \
        int beyond = 0;                                                                            \
        for (Py_ssize_t i = 0; i < n; i++) {                                                       \
            T bits = (T)(((T)((T)(v[i] >> low) & mask) ^ sign) - sign);                            \
            int32_t value = sign ? (int32_t)(S)bits : (int32_t)bits;                               \
            beyond |= (value < first) | (value > last);                                            \
        }                                                                                          \
        return !beyond;                                                                            \
    }
FITS(fits_8, uint8_t, int8_t)
FITS(fits_16, uint16_t, int16_t)

/* Where values are padding, a byte each; how many. */
#define RANGE(NAME, T)                                                                             \
    INLINE Py_ssize_t NAME(uint8_t *found, const T *v, Py_ssize_t n, int32_t first,                \
                           int32_t last) {                                                         \
        const T start = (T)first, stop = (T)last;                                                  \
        uint32_t count = 0;                                                                        \
        for (Py_ssize_t i = 0; i < n; i++) {                                                       \
            found[i] = (uint8_t)((v[i] >= start) & (v[i] <= stop));                                \
            count += found[i];                                                                     \
        }                                                                                          \
        return count;                                                                              \
    }
RANGE(range_u8, uint8_t)
RANGE(range_i16, int16_t)
RANGE(range_u16, uint16_t)

/* Copies pixels of `size` bytes that are no padding; how many. Padding mostly lies together. */
INLINE Py_ssize_t kept_of(char *out, const char *in, const uint8_t *padding, Py_ssize_t n,
                          size_t size) {
    Py_ssize_t kept = 0, i = 0;
    for (; i + 8 <= n; i += 8) {
        uint64_t eight;
        memcpy(&eight, padding + i, 8);
        if (!eight) {
            memcpy(out + kept * size, in + i * size, 8 * size);
            kept += 8;
        } else {
            for (int k = 0; k < 8; k++) {
                memcpy(out + kept * size, in + (i + k) * size, size);
                kept += !padding[i + k];
            }
        }
    }
    for (; i < n; i++) {
        memcpy(out + kept * size, in + i * size, size);
        kept += !padding[i];
    }
    return kept;
}

static Py_ssize_t kept(char *out, const char *in, const uint8_t *padding, Py_ssize_t n,
                       size_t size) {
    switch (size) { /* known sizes are copied without a call */
    case 1: return kept_of(out, in, padding, n, 1);
    case 2: return kept_of(out, in, padding, n, 2);
    case 3: return kept_of(out, in, padding, n, 3);
    case 4: return kept_of(out, in, padding, n, 4);
    case 8: return kept_of(out, in, padding, n, 8);
    default: return kept_of(out, in, padding, n, size);
    }
}

static Py_ssize_t padded_in(const uint8_t *padding, Py_ssize_t n) {
    Py_ssize_t count = 0;
    for (Py_ssize_t i = 0; i < n; i++) count += padding[i] != 0;
    return count;
}

INLINE void whole_body(Whole *w) {
    const Frame *f = w->frame;
    /* Whole vectors of values, also of three channels: what is left over goes value by value. */
    const Py_ssize_t at_once = BLOCK / f->channels / SHORT * SHORT;
    const size_t size = (size_t)f->channels * (size_t)f->width;
    _Alignas(64) char block[2 * BLOCK], rest[2 * BLOCK];
    uint8_t ranged[BLOCK];
    for (Py_ssize_t at = 0; at < f->pixels; at += at_once) {
        Py_ssize_t n = f->pixels - at < at_once ? f->pixels - at : at_once, padded = 0;
        const uint8_t *padding = w->padding ? w->padding + at : NULL;
        char *place = f->data + at * size, *values = block;
        if (w->line || f->width > 1)
            memcpy(block, place, n * size);
        else
            values = place;
        if (w->line) {
            int look = f->width == 1 ? apply_8(w->line, (uint8_t *)block, n)
                                     : apply_16(w->line, (uint16_t *)block, n);
            if (look && !w->others)
                w->others = f->width == 1 ? others_8(w->line, place, n)
                                          : others_16(w->line, place, n);
            memcpy(place, block, n * size);
        }
        if (padding) {
            padded = padded_in(padding, n);
        } else if (w->ranged) {
            padding = ranged;
            if (f->kind == 'B') padded = range_u8(ranged, (uint8_t *)values, n, w->first, w->last);
            if (f->kind == 'h') padded = range_i16(ranged, (int16_t *)block, n, w->first, w->last);
            if (f->kind == 'H') padded = range_u16(ranged, (uint16_t *)block, n, w->first, w->last);
        }
        if (padded) {
            w->padded += padded;
            n = kept(rest, values, padding, n, size);
            values = rest;
        }
        if (!n) continue;
        if (f->kind == 'B') add_u8(w, (uint8_t *)values, n * f->channels);
        if (f->kind == 'h') add_i16(w, (int16_t *)values, n * f->channels);
        if (f->kind == 'H') add_u16(w, (uint16_t *)values, n * f->channels);
    }
}

INLINE int all_fit_body(const Frame *f, const Line *line, int32_t first, int32_t last) {
    _Alignas(64) char block[2 * BLOCK];
    for (Py_ssize_t at = 0; at < f->pixels; at += BLOCK) {
        Py_ssize_t n = f->pixels - at < BLOCK ? f->pixels - at : BLOCK;
        memcpy(block, f->data + at * f->width, n * f->width);
        if (!(f->width == 1 ? fits_8(line, (uint8_t *)block, n, first, last)
                            : fits_16(line, (uint16_t *)block, n, first, last)))
            return 0;
    }
    return 1;
}

/* ---- a regular sub-grid --------------------------------------------------------------------- */

/* Counts the values of every step-th pixel of every step-th row that are no padding, less `least`,
in several tables one behind the other: equal neighbours would wait for each other. How many. */
#define COUNT(NAME, T, TABLES, LEAST, SPAN)                                                        \
    INLINE Py_ssize_t NAME##_of(const Whole *w, Py_ssize_t step, size_t span, uint32_t *counts,    \
                                const uint8_t *padding, int ranged, Py_ssize_t channels) {         \
        const Frame *f = w->frame;                                                                 \
        const int32_t least = LEAST, first = w->first, last = w->last;                             \
        size_t count = 0;                                                                          \
        for (Py_ssize_t y = 0; y < f->rows; y += step)                                             \
            for (Py_ssize_t x = 0; x < f->columns; x += step) {                                    \
                const Py_ssize_t pixel = y * f->columns + x;                                       \
                if (padding && padding[pixel]) continue;                                           \
                for (Py_ssize_t c = 0; c < channels; c++) {                                        \
                    T value;                                                                       \
                    memcpy(&value, f->data + (pixel * channels + c) * (Py_ssize_t)sizeof value,    \
                           sizeof value);                                                          \
                    if (ranged && value >= first && value <= last) continue;                       \
                    counts[count++ % TABLES * SPAN + (size_t)(value - least)]++;                   \
                }                                                                                  \
            }                                                                                      \
        for (int k = 1; k < TABLES; k++)                                                           \
            for (size_t v = 0; v < span; v++) counts[v] += counts[k * SPAN + v];                   \
        return (Py_ssize_t)count;                                                                  \
    }                                                                                              \
    static Py_ssize_t NAME(const Whole *w, Py_ssize_t step, size_t span, uint32_t *counts) {       \
        const Py_ssize_t channels = w->frame->channels;                                            \
        if (!w->padded && channels == 1) return NAME##_of(w, step, span, counts, NULL, 0, 1);      \
        if (!w->padded && channels == 3) return NAME##_of(w, step, span, counts, NULL, 0, 3);      \
        return NAME##_of(w, step, span, counts, w->padding, w->ranged, channels);                  \
    }
COUNT(count_u8, uint8_t, 8, 0, 256)
COUNT(count_i16, int16_t, 4, w->least, span)
COUNT(count_u16, uint16_t, 4, w->least, span)

/* ---- real numbers --------------------------------------------------------------------------- */

typedef struct {
    double sum[LANES], lost[LANES], row[LANES];
    Py_ssize_t filled; /* values in `row` */
} Lanes;

typedef struct {
    const Frame *frame;
    const uint8_t *padding;
    Py_ssize_t count, padded;
    double least, most, total, squares;
} Real;

/* sum + value, and what its rounding loses added to `lost` (Neumaier's sum; the loss by Knuth's
TwoSum, which has no branch and finds the same). */
INLINE void add(double *sum, double *lost, double value) {
    const double next = *sum + value, part = next - *sum;
    *lost += (*sum - (next - part)) + (value - part);
    *sum = next;
}

/* A value to each lane. */
INLINE void add_row(Lanes *restrict l, const double *restrict x) {
    for (int k = 0; k < LANES; k++) add(&l->sum[k], &l->lost[k], x[k]);
}

INLINE void add_values(Lanes *l, const double *x, Py_ssize_t n) {
    double row[LANES];
    while (n) {
        if (!l->filled && n >= LANES) {
            add_row(l, x);
            x += LANES, n -= LANES;
            continue;
        }
        Py_ssize_t more = LANES - l->filled < n ? LANES - l->filled : n;
        memcpy(l->row + l->filled, x, more * sizeof(double));
        x += more, n -= more, l->filled += more;
        if (l->filled == LANES) {
            memcpy(row, l->row, sizeof row);
            add_row(l, row);
            l->filled = 0;
        }
    }
}

/* All lanes' sums, then what they lost, in order. */
INLINE double sum_of(Lanes *l) {
    double zeros[LANES] = {0}, all[2 * LANES], sum = 0, lost = 0;
    if (l->filled) add_values(l, zeros, LANES - l->filled);
    memcpy(all, l->sum, sizeof l->sum);
    memcpy(all + LANES, l->lost, sizeof l->lost);
    for (int k = 0; k < 2 * LANES; k++) add(&sum, &lost, all[k]);
    return sum + lost;
}

/* True if any of n values, of all whose exponent's bits are set, is infinite or no number. */
#define ODD(NAME, T, EXPONENT)                                                                     \
    INLINE int NAME(const T *bits, Py_ssize_t n) {                                                 \
        T odd = 0;                                                                                 \
        for (Py_ssize_t i = 0; i < n; i++) odd |= (bits[i] & (EXPONENT)) == (EXPONENT);            \
        return odd != 0;                                                                           \
    }
ODD(odd_32, uint32_t, UINT32_C(0x7F800000))
ODD(odd_64, uint64_t, UINT64_C(0x7FF0000000000000))

/* The next pixels as float64, without padding and what is not finite; how many values. */
INLINE Py_ssize_t finite_of(const Real *r, Py_ssize_t at, Py_ssize_t pixels, double *out) {
    const Frame *f = r->frame;
    const Py_ssize_t n = pixels * f->channels;
    const char *place = f->data + at * f->channels * f->width;
    union {
        float f[BLOCK];
        double d[BLOCK];
        int32_t i[BLOCK];
        uint32_t u[BLOCK];
        uint64_t w[BLOCK];
    } in;
    int odd = 0;
    memcpy(&in, place, n * f->width);
    if (f->kind == 'f') {
        odd = odd_32(in.u, n);
        for (Py_ssize_t i = 0; i < n; i++) out[i] = in.f[i];
    } else if (f->kind == 'i') {
        for (Py_ssize_t i = 0; i < n; i++) out[i] = in.i[i];
    } else {
        odd = odd_64(in.w, n);
        memcpy(out, in.d, n * sizeof(double));
    }
    if (!odd && !(r->padding && padded_in(r->padding + at, pixels))) return n;
    Py_ssize_t left = 0;
    for (Py_ssize_t i = 0; i < n; i++) {
        const double value = out[i];
        const int padded = r->padding && r->padding[at + i / f->channels];
        out[left] = value;
        left += !padded && fabs(value) <= DBL_MAX;
    }
    return left;
}

/* Ends of n values, in lanes: a compiler must not reorder real numbers by itself. */
INLINE void add_ends(double *least, double *most, const double *x, Py_ssize_t n) {
    double low[8], high[8];
    Py_ssize_t i = 0;
    for (int k = 0; k < 8; k++) low[k] = *least, high[k] = *most;
    for (; i + 8 <= n; i += 8)
        for (int k = 0; k < 8; k++) {
            low[k] = x[i + k] < low[k] ? x[i + k] : low[k];
            high[k] = x[i + k] > high[k] ? x[i + k] : high[k];
        }
    for (; i < n; i++) {
        low[0] = x[i] < low[0] ? x[i] : low[0];
        high[0] = x[i] > high[0] ? x[i] : high[0];
    }
    for (int k = 0; k < 8; k++) {
        *least = low[k] < *least ? low[k] : *least;
        *most = high[k] > *most ? high[k] : *most;
    }
}

INLINE void real_body(Real *r) {
    const Frame *f = r->frame;
    const Py_ssize_t at_once = BLOCK / f->channels;
    double values[BLOCK], mean = 0, least = INFINITY, most = -INFINITY;
    for (int second = 0; second < 2; second++) {
        Lanes lanes;
        memset(&lanes, 0, sizeof lanes);
        for (Py_ssize_t at = 0; at < f->pixels; at += at_once) {
            Py_ssize_t pixels = f->pixels - at < at_once ? f->pixels - at : at_once;
            Py_ssize_t n = finite_of(r, at, pixels, values);
            if (second) {
                for (Py_ssize_t i = 0; i < n; i++) {
                    double away = values[i] - mean;
                    values[i] = away * away;
                }
            } else {
                add_ends(&least, &most, values, n);
                r->count += n;
                if (r->padding) r->padded += padded_in(r->padding + at, pixels);
            }
            add_values(&lanes, values, n);
        }
        if (second) {
            r->squares = sum_of(&lanes);
        } else {
            r->total = sum_of(&lanes);
            if (!r->count) return;
            mean = r->total / (double)r->count;
        }
    }
    r->least = least + 0.0, r->most = most + 0.0; /* no -0 */
}

/* ---- differences of neighbours --------------------------------------------------------------- */

#define CATEGORIES 17 /* bits that the size of a difference takes, modulo 2^16: 0 to 16 */

typedef struct {
    const Frame *frame;
    uint16_t before;      /* what the first pixel is compared with */
    const uint8_t *costs; /* of each category */
    uint64_t total;       /* costs of all pixels */
    uint32_t seen;        /* a bit for each category that is there */
} Steps;

/* The pixel that precedes one: to its left, or above in the first column. */
INLINE uint16_t preceding(const Steps *s, Py_ssize_t y, Py_ssize_t x) {
    const Frame *f = s->frame;
    uint16_t value = s->before;
    if (x)
        memcpy(&value, f->data + 2 * (y * f->columns + x - 1), 2);
    else if (y)
        memcpy(&value, f->data + 2 * (y - 1) * f->columns, 2);
    return value;
}

INLINE uint16_t size_of(uint16_t value, uint16_t from) {
    uint16_t step = (uint16_t)(value - from), sign = (uint16_t) - (step >> 15);
    return (uint16_t)((step ^ sign) - sign);
}

INLINE void steps_body(Steps *s) {
    const Frame *f = s->frame;
    uint64_t reached[CATEGORIES] = {0}; /* sizes of at least 2^(k - 1) */
    uint16_t values[BLOCK + 1], size[BLOCK];
    for (Py_ssize_t y = 0; y < f->rows; y++)
        for (Py_ssize_t x = 0; x < f->columns; x += BLOCK) {
            const Py_ssize_t n = f->columns - x < BLOCK ? f->columns - x : BLOCK;
            uint16_t all = 0;
            values[0] = preceding(s, y, x);
            memcpy(values + 1, f->data + 2 * (y * f->columns + x), 2 * n);
            for (Py_ssize_t i = 0; i < n; i++) {
                size[i] = size_of(values[i + 1], values[i]);
                all |= size[i];
            }
            reached[0] += (uint64_t)n;
            for (int k = 0; all >> k; k++) {
                const uint16_t limit = (uint16_t)(1 << k);
                uint16_t count = 0; /* of BLOCK at most */
                for (Py_ssize_t i = 0; i < n; i++) count += size[i] >= limit;
                reached[k + 1] += count;
            }
        }
    for (int k = 0; k < CATEGORIES; k++) {
        const uint64_t count = reached[k] - (k + 1 < CATEGORIES ? reached[k + 1] : 0);
        s->total += count * s->costs[k];
        s->seen |= (uint32_t)(count != 0) << k;
    }
}

/* How many of n bytes have this value. */
INLINE Py_ssize_t equal_body(const uint8_t *bytes, Py_ssize_t n, uint8_t value) {
    Py_ssize_t found = 0;
    for (Py_ssize_t at = 0; at < n; at += BLOCK) {
        const Py_ssize_t stop = n - at < BLOCK ? n : at + BLOCK;
        uint16_t count = 0;
        for (Py_ssize_t i = at; i < stop; i++) count += bytes[i] == value;
        found += count;
    }
    return found;
}

/* ---- a set of loops for each kind of processor ----------------------------------------------- */

#define LOOPS(NAME, TARGET)                                                                        \
    TARGET static void whole_##NAME(Whole *w) { whole_body(w); }                                   \
    TARGET static void real_##NAME(Real *r) { real_body(r); }                                      \
    TARGET static void steps_##NAME(Steps *s) { steps_body(s); }                                   \
    TARGET static Py_ssize_t equal_##NAME(const uint8_t *bytes, Py_ssize_t n, uint8_t value) {     \
        return equal_body(bytes, n, value);                                                        \
    }                                                                                              \
    TARGET static int fits_##NAME(const Frame *f, const Line *l, int32_t first, int32_t last) {    \
        return all_fit_body(f, l, first, last);                                                    \
    }
#define USE(NAME)                                                                                  \
    (run_whole = whole_##NAME, run_real = real_##NAME, run_fits = fits_##NAME,                     \
     run_steps = steps_##NAME, run_equal = equal_##NAME)

LOOPS(plain, )
static void (*run_whole)(Whole *) = whole_plain;
static void (*run_real)(Real *) = real_plain;
static void (*run_steps)(Steps *) = steps_plain;
static Py_ssize_t (*run_equal)(const uint8_t *, Py_ssize_t, uint8_t) = equal_plain;
static int (*run_fits)(const Frame *, const Line *, int32_t, int32_t) = fits_plain;

/* Not by target_clones: that takes a loader with ifunc, and gcc 12 has it not for AVX-512. */
#if defined(__x86_64__) && defined(__GNUC__)
LOOPS(avx2, __attribute__((target("avx2"))))
#ifndef __clang__
#define AVX512 __attribute__((target("avx512bw,avx512cd,avx512dq,avx512vl,prefer-vector-width=512")))
LOOPS(avx512, AVX512)

/* As steps_body, by a table for 16 pixels at once: no compiler finds that by itself. */
AVX512 static void tabled_avx512(Steps *s) {
    const Frame *f = s->frame;
    uint32_t table[32] = {0}; /* costs by the leading zeros in 32 bits, modulo 32 */
    for (int k = 0; k < CATEGORIES; k++) table[(32 - k) % 32] = s->costs[k];
    const __m512i few = _mm512_loadu_si512(table), many = _mm512_loadu_si512(table + 16);
    const __m512i one = _mm512_set1_epi32(1), bits = _mm512_set1_epi32(32);
    __m512i seen = _mm512_setzero_si512();
    for (Py_ssize_t y = 0; y < f->rows; y++)
        for (Py_ssize_t x = 0; x < f->columns; x += BLOCK) {
            const Py_ssize_t n = f->columns - x < BLOCK ? f->columns - x : BLOCK;
            const char *place = f->data + 2 * (y * f->columns + x);
            __m512i total = _mm512_setzero_si512();
            uint16_t first;
            memcpy(&first, place, 2);
            first = size_of(first, preceding(s, y, x));
            const int category = first ? 32 - __builtin_clz(first) : 0;
            s->total += s->costs[category];
            s->seen |= (uint32_t)1 << category;
            for (Py_ssize_t i = 1; i < n; i += 16) {
                __m256i value, from;
                __mmask16 there = 0xFFFF;
                if (n - i >= 16) {
                    value = _mm256_loadu_si256((const void *)(place + 2 * i));
                    from = _mm256_loadu_si256((const void *)(place + 2 * i - 2));
                } else {
                    there = (__mmask16)((1 << (n - i)) - 1);
                    value = _mm256_maskz_loadu_epi16(there, place + 2 * i);
                    from = _mm256_maskz_loadu_epi16(there, place + 2 * i - 2);
                }
                const __m256i size = _mm256_abs_epi16(_mm256_sub_epi16(value, from));
                const __m512i zeros = _mm512_lzcnt_epi32(_mm512_cvtepu16_epi32(size));
                const __m512i costs = _mm512_permutex2var_epi32(few, zeros, many);
                const __m512i marks = _mm512_sllv_epi32(one, _mm512_sub_epi32(bits, zeros));
                total = _mm512_mask_add_epi32(total, there, total, costs);
                seen = _mm512_mask_or_epi32(seen, there, seen, marks);
            }
            s->total += (uint32_t)_mm512_reduce_add_epi32(total);
        }
    s->seen |= (uint32_t)_mm512_reduce_or_epi32(seen);
}
#endif
#endif

/* ---- CRC-32C (RFC 3720 B.4) ------------------------------------------------------------------- */

#define CRC_POLYNOMIAL UINT32_C(0x82F63B78) /* its bits in reverse */

static uint32_t (*run_crc)(const uint8_t *, size_t) = NULL; /* where it is faster than others */

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define FOLDED 256 /* bytes that are worked on at once */
static uint64_t fold_low, fold_high;

/* x^n modulo the polynomial, bits in reverse, as a factor of a product without carries. */
static uint64_t power(unsigned int n) {
    uint32_t value = UINT32_C(1) << 31;
    while (n--) value = value >> 1 ^ (value & 1 ? CRC_POLYNOMIAL : 0);
    return (uint64_t)value << 1;
}

/* What is FOLDED bytes further on, with what these bytes amount to there. */
#define FOLD(STATE, NEXT)                                                                          \
    _mm512_ternarylogic_epi64(_mm512_clmulepi64_epi128(STATE, by, 0x00),                           \
                              _mm512_clmulepi64_epi128(STATE, by, 0x11), NEXT, 0x96)

__attribute__((target("avx512f,vpclmulqdq,sse4.2"))) static uint32_t crc_folded(const uint8_t *data,
                                                                                size_t n) {
    uint64_t crc = UINT32_MAX;
    if (n >= 2 * FOLDED) {
        const __m512i by = _mm512_set_epi64(
            (long long)fold_high, (long long)fold_low, (long long)fold_high, (long long)fold_low,
            (long long)fold_high, (long long)fold_low, (long long)fold_high, (long long)fold_low);
        __m512i a = _mm512_loadu_si512(data), b = _mm512_loadu_si512(data + 64);
        __m512i c = _mm512_loadu_si512(data + 128), d = _mm512_loadu_si512(data + 192);
        a = _mm512_xor_si512(a, _mm512_set_epi64(0, 0, 0, 0, 0, 0, 0, (long long)crc));
        for (data += FOLDED, n -= FOLDED; n >= FOLDED; data += FOLDED, n -= FOLDED) {
            a = FOLD(a, _mm512_loadu_si512(data)), b = FOLD(b, _mm512_loadu_si512(data + 64));
            c = FOLD(c, _mm512_loadu_si512(data + 128));
            d = FOLD(d, _mm512_loadu_si512(data + 192));
        }
        uint64_t rest[FOLDED / 8];
        _mm512_storeu_si512(rest, a), _mm512_storeu_si512(rest + 8, b);
        _mm512_storeu_si512(rest + 16, c), _mm512_storeu_si512(rest + 24, d);
        crc = 0;
        for (int k = 0; k < FOLDED / 8; k++) crc = _mm_crc32_u64(crc, rest[k]);
    }
    for (; n >= 8; data += 8, n -= 8) {
        uint64_t eight;
        memcpy(&eight, data, 8);
        crc = _mm_crc32_u64(crc, eight);
    }
    for (; n; data++, n--) crc = _mm_crc32_u8((uint32_t)crc, *data);
    return ~(uint32_t)crc;
}
#endif

static void choose_crc(void) {
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
    __builtin_cpu_init();
    if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("vpclmulqdq") ||
        !__builtin_cpu_supports("sse4.2"))
        return;
    fold_low = power(8 * FOLDED + 32), fold_high = power(8 * FOLDED - 32);
    run_crc = crc_folded;
#endif
}

/* Use the best set that this processor has, up to `most`; which one: 0 plain, 1 AVX2, 2 AVX-512. */
static int choose(long most) {
    USE(plain);
#if defined(__x86_64__) && defined(__GNUC__)
    __builtin_cpu_init();
#ifndef __clang__
    if (most >= 2 && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512cd") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")) {
        USE(avx512);
        run_steps = tabled_avx512;
        return 2;
    }
#endif
    if (most >= 1 && __builtin_cpu_supports("avx2")) {
        USE(avx2);
        return 1;
    }
#endif
    (void)most;
    return 0;
}

/* ---- Python --------------------------------------------------------------------------------- */

/* The frame in a buffer of (H, W) or (H, W, C), of one of `kinds`; 0 and an exception if it is
none. */
static int frame_of(PyObject *array, const char *kinds, int flags, Py_buffer *view, Frame *frame) {
    if (PyObject_GetBuffer(array, view, PyBUF_C_CONTIGUOUS | PyBUF_FORMAT | flags)) return 0;
    const char *format = view->format ? view->format : "B";
    if (*format && strchr("@=^<", *format)) format++; /* as NumPy calls what is not aligned */
    char kind = *format == 'l' && view->itemsize == 4 ? 'i' : *format;
    const int width = kind == 'B' ? 1 : kind == 'h' || kind == 'H' ? 2 : kind == 'd' ? 8 : 4;
    const char *wrong = NULL;
    if (!kind || format[1] || !strchr(kinds, kind) || view->itemsize != width)
        wrong = "values of a kind that is not treated here";
    else if (view->ndim != 2 && view->ndim != 3)
        wrong = "a frame is (H, W) or (H, W, C)";
    else if (view->ndim == 3 && (view->shape[2] < 1 || view->shape[2] > MOST_CHANNELS))
        wrong = "too many channels, or none";
    if (wrong) {
        PyErr_SetString(PyExc_ValueError, wrong);
        PyBuffer_Release(view);
        return 0;
    }
    /* The exporter vouches for len = the product of shape and itemsize: none of it overflows. */
    frame->kind = kind, frame->width = width;
    frame->rows = view->shape[0], frame->columns = view->shape[1];
    frame->channels = view->ndim == 3 ? view->shape[2] : 1;
    frame->pixels = view->len / (frame->channels * width);
    frame->data = view->buf;
    if (frame->rows && frame->pixels / frame->rows != frame->columns) frame->pixels = 0;
    return 1;
}

/* A mask of a byte for each pixel of the frame, or None. */
static int padding_of(PyObject *mask, const Frame *frame, Py_buffer *view, const uint8_t **found) {
    *found = NULL;
    if (mask == Py_None) return 1;
    if (PyObject_GetBuffer(mask, view, PyBUF_C_CONTIGUOUS)) return 0;
    if (view->itemsize != 1 || view->len != frame->pixels) {
        PyErr_SetString(PyExc_ValueError, "padding has a byte for each pixel");
        PyBuffer_Release(view);
        return 0;
    }
    *found = view->buf;
    return 1;
}

/* The values of the sub-grid at the places that `places_of(count)` says, ascending. */
static PyObject *percentiles(const Whole *w, Py_ssize_t step, PyObject *places_of) {
    const Frame *f = w->frame;
    const int32_t least = f->width == 1 ? 0 : w->least; /* as `COUNT` has it */
    const size_t top = (size_t)(w->most - least) + 1, span = f->width == 1 ? 256 : top;
    PyObject *places = NULL, *found = NULL;
    Py_ssize_t count = 0;
    uint32_t *counts = PyMem_Calloc((f->width == 1 ? 8 : 4) * span, sizeof *counts);
    if (!counts) return PyErr_NoMemory();
    Py_BEGIN_ALLOW_THREADS
    if (f->kind == 'B') count = count_u8(w, step, span, counts);
    if (f->kind == 'h') count = count_i16(w, step, span, counts);
    if (f->kind == 'H') count = count_u16(w, step, span, counts);
    Py_END_ALLOW_THREADS
    if (!count) {
        found = PyTuple_New(0);
        goto end;
    }
    places = PyObject_CallFunction(places_of, "n", count);
    if (!places) goto end;
    if (!PyTuple_Check(places)) {
        PyErr_SetString(PyExc_TypeError, "places are a tuple");
        goto end;
    }
    const Py_ssize_t n = PyTuple_Size(places);
    found = PyTuple_New(n);
    size_t value = 0;
    Py_ssize_t below = counts[0]; /* values up to `value` */
    for (Py_ssize_t k = 0; found && k < n; k++) {
        Py_ssize_t place = PyLong_AsSsize_t(PyTuple_GetItem(places, k));
        if (place == -1 && PyErr_Occurred()) {
            Py_CLEAR(found);
            break;
        }
        while (below <= place && value + 1 < top) below += counts[++value];
        PyObject *item = PyFloat_FromDouble((double)(least + (int32_t)value));
        if (!item || PyTuple_SetItem(found, k, item)) Py_CLEAR(found);
    }
end:
    Py_XDECREF(places);
    PyMem_Free(counts);
    return found;
}

/* (count, padded, least, most, sum, upper and lower 16 bits of squares, percentiles, others) */
static PyObject *answer(const Whole *w, Py_ssize_t step, PyObject *places_of) {
    PyObject *found = w->count ? percentiles(w, step, places_of) : PyTuple_New(0);
    if (!found) return NULL;
    return Py_BuildValue("nniiLKKNi", w->count, w->padded, (int)w->least, (int)w->most,
                         (long long)w->total, (unsigned long long)w->high,
                         (unsigned long long)w->low, found, w->others);
}

PyDoc_STRVAR(whole_doc, "whole(values, padding, step, places_of)\n\n"
                        "Sums, ends and percentiles of whole numbers of 8 or 16 bits.");

static PyObject *whole(PyObject *Py_UNUSED(module), PyObject *args) {
    PyObject *array, *mask, *places_of, *found = NULL;
    Py_ssize_t step;
    Py_buffer values, padding;
    Frame frame;
    Whole w = {.frame = &frame, .one = 1};
    if (!PyArg_ParseTuple(args, "OOnO", &array, &mask, &step, &places_of)) return NULL;
    if (step < 1) return PyErr_Format(PyExc_ValueError, "step %zd", step);
    if (!frame_of(array, "BhH", 0, &values, &frame)) return NULL;
    if (padding_of(mask, &frame, &padding, &w.padding)) {
        Py_BEGIN_ALLOW_THREADS
        run_whole(&w);
        Py_END_ALLOW_THREADS
        found = answer(&w, step, places_of);
        if (w.padding) PyBuffer_Release(&padding);
    }
    PyBuffer_Release(&values);
    return found;
}

PyDoc_STRVAR(grey_doc,
             "grey(slot, bits, low, signed, declared, m, b, fits, padding, step, places_of)\n\n"
             "Stored bits to values in place, m * stored + b modulo the slot's width, and what\n"
             "`whole` says of them. None, and nothing is done, where a stored value is not in\n"
             "`fits`; `padding` is a range of values, of `declared` bits nothing is said.");

static PyObject *grey(PyObject *Py_UNUSED(module), PyObject *args) {
    PyObject *array, *places_of, *found = NULL, *fits, *padding;
    Py_ssize_t step;
    unsigned int bits, low, declared, m, b;
    int sign, first = 0, last = 0, fit = 1;
    Py_buffer values;
    Frame frame;
    Line line;
    Whole w = {.frame = &frame, .line = &line, .one = 1};
    if (!PyArg_ParseTuple(args, "OIIpIIIOOnO", &array, &bits, &low, &sign, &declared, &m, &b, &fits,
                          &padding, &step, &places_of))
        return NULL;
    if (fits != Py_None && !PyArg_ParseTuple(fits, "ii", &first, &last)) return NULL;
    if (padding != Py_None) {
        if (!PyArg_ParseTuple(padding, "ii", &w.first, &w.last)) return NULL;
        w.ranged = 1;
    }
    if (step < 1) return PyErr_Format(PyExc_ValueError, "step %zd", step);
    if (!frame_of(array, "BhH", PyBUF_WRITABLE, &values, &frame)) return NULL;
    const unsigned int width = 8 * (unsigned int)frame.width;
    const int32_t bottom = frame.kind == 'h' ? INT16_MIN : 0;
    const int32_t top = frame.kind == 'h' ? INT16_MAX : frame.kind == 'H' ? UINT16_MAX : UINT8_MAX;
    if (!bits || bits > width || low > width - bits || frame.channels != 1 ||
        (w.ranged && (w.first < bottom || w.last > top || w.first > w.last))) {
        PyErr_SetString(PyExc_ValueError, "bits or padding that the slot cannot hold");
        goto end;
    }
    const uint32_t all = width == 8 ? 0xFF : 0xFFFF;
    line.low = low, line.m = m, line.b = b;
    line.mask = ((uint32_t)1 << bits) - 1;
    line.sign = sign ? (uint32_t)1 << (bits - 1) : 0;
    line.outside = ~(line.mask << low | declared) & all;
    Py_BEGIN_ALLOW_THREADS
    if (fits != Py_None) fit = run_fits(&frame, &line, first, last);
    if (fit) run_whole(&w);
    Py_END_ALLOW_THREADS
    found = fit ? answer(&w, step, places_of) : Py_NewRef(Py_None);
end:
    PyBuffer_Release(&values);
    return found;
}

PyDoc_STRVAR(real_doc, "real(values, padding)\n\n"
                       "(count, padded, least, most, sum, sum of squares about the mean) of what\n"
                       "is finite and no padding, of float32, float64 or int32.");

static PyObject *real(PyObject *Py_UNUSED(module), PyObject *args) {
    PyObject *array, *mask, *found = NULL;
    Py_buffer values, padding;
    Frame frame;
    Real r = {.frame = &frame};
    if (!PyArg_ParseTuple(args, "OO", &array, &mask)) return NULL;
    if (!frame_of(array, "ifd", 0, &values, &frame)) return NULL;
    if (padding_of(mask, &frame, &padding, &r.padding)) {
        Py_BEGIN_ALLOW_THREADS
        run_real(&r);
        Py_END_ALLOW_THREADS
        found = Py_BuildValue("nndddd", r.count, r.padded, r.least, r.most, r.total, r.squares);
        if (r.padding) PyBuffer_Release(&padding);
    }
    PyBuffer_Release(&values);
    return found;
}

PyDoc_STRVAR(steps_doc,
             "steps(values, before, costs)\n\n"
             "(sum of costs, a bit for each index of them that is there): a difference from the\n"
             "value to the left, of the first column from the one above, of the first from\n"
             "`before`, modulo 2^16, costs what the byte of `costs` says at the bits, 0 to 16,\n"
             "that its size takes.");

static PyObject *steps(PyObject *Py_UNUSED(module), PyObject *args) {
    PyObject *array, *costs_of, *found = NULL;
    unsigned int before;
    Py_buffer values, costs;
    Frame frame;
    if (!PyArg_ParseTuple(args, "OIO", &array, &before, &costs_of)) return NULL;
    if (!frame_of(array, "H", 0, &values, &frame)) return NULL;
    if (PyObject_GetBuffer(costs_of, &costs, PyBUF_SIMPLE)) goto end;
    if (frame.channels != 1) {
        PyErr_SetString(PyExc_ValueError, "a frame is (H, W)");
    } else if (costs.len != CATEGORIES) {
        PyErr_SetString(PyExc_ValueError, "costs are 17 bytes");
    } else {
        Steps s = {.frame = &frame, .before = (uint16_t)before, .costs = costs.buf};
        Py_BEGIN_ALLOW_THREADS
        if (frame.pixels) run_steps(&s);
        Py_END_ALLOW_THREADS
        found = Py_BuildValue("KI", (unsigned long long)s.total, (unsigned int)s.seen);
    }
    PyBuffer_Release(&costs);
end:
    PyBuffer_Release(&values);
    return found;
}

PyDoc_STRVAR(equal_doc, "equal(bytes, value)\n\nHow many of the bytes have this value.");

static PyObject *equal(PyObject *Py_UNUSED(module), PyObject *args) {
    PyObject *bytes;
    unsigned char value;
    Py_buffer view;
    Py_ssize_t found;
    if (!PyArg_ParseTuple(args, "Ob", &bytes, &value)) return NULL;
    if (PyObject_GetBuffer(bytes, &view, PyBUF_SIMPLE)) return NULL;
    Py_BEGIN_ALLOW_THREADS
    found = run_equal(view.buf, view.len, value);
    Py_END_ALLOW_THREADS
    PyBuffer_Release(&view);
    return PyLong_FromSsize_t(found);
}

PyDoc_STRVAR(crc32c_doc, "crc32c(data)\n\n"
                         "CRC-32C (RFC 3720) of contiguous bytes; None where this processor has\n"
                         "not what makes it fast.");

static PyObject *crc32c(PyObject *Py_UNUSED(module), PyObject *data) {
    Py_buffer view;
    uint32_t found;
    if (!run_crc) return Py_NewRef(Py_None);
    if (PyObject_GetBuffer(data, &view, PyBUF_C_CONTIGUOUS)) return NULL;
    Py_BEGIN_ALLOW_THREADS
    found = run_crc(view.buf, (size_t)view.len);
    Py_END_ALLOW_THREADS
    PyBuffer_Release(&view);
    return PyLong_FromUnsignedLong(found);
}

PyDoc_STRVAR(use_doc, "use(most)\n\n"
                      "The best set of loops up to 0 plain, 1 AVX2, 2 AVX-512: which one. For tests.");

static PyObject *use(PyObject *Py_UNUSED(module), PyObject *most) {
    const long wanted = PyLong_AsLong(most);
    if (wanted == -1 && PyErr_Occurred()) return NULL;
    return PyLong_FromLong(choose(wanted));
}

/* Of headers, in headers/_scan.c. */
PyObject *scan_meta(PyObject *, PyObject *);
PyObject *scan_walk(PyObject *, PyObject *);
PyObject *scan_parts(PyObject *, PyObject *);
PyObject *scan_values(PyObject *, PyObject *);

PyDoc_STRVAR(scan_meta_doc, "scan_meta(data)\n\n"
                            "(transfer syntax, offset after group 0002) of what a file begins with;\n"
                            "None if it is unusual.");

PyDoc_STRVAR(scan_walk_doc,
             "scan_walk(data, at, last, implicit, wanted, apart, longest, vr_of)\n\n"
             "The elements from `at` on, up to the pixel data or the end of `data`: (the wanted ones\n"
             "one behind the other, but {tag: (VR, value)} of those of them that are `apart`, where it\n"
             "stopped, the tag before that, whether there are pixels, whether one of the first is\n"
             "longer than `longest`). None if there is anything unusual. Tags are 32 bits each.");

PyDoc_STRVAR(scan_parts_doc, "scan_parts(elements, implicit)\n\n"
                             "{tag: (VR, value)} of elements one behind the other.");

PyDoc_STRVAR(scan_values_doc,
             "scan_values(own)\n\n"
             "(SOP Instance UID, Acquisition and Instance Number, Image Position, Slice Location,\n"
             "Trigger Time, Frame Reference Time, Acquisition Date, ms of Acquisition Time since\n"
             "midnight) of {tag: (VR, value)}; None if one of them is odd.");

static int start(PyObject *module) {
    choose(2);
    choose_crc();
    return PyModule_AddIntConstant(module, "REVISION", 6);
}

static PyMethodDef methods[] = {
    {"whole", whole, METH_VARARGS, whole_doc},
    {"grey", grey, METH_VARARGS, grey_doc},
    {"real", real, METH_VARARGS, real_doc},
    {"steps", steps, METH_VARARGS, steps_doc},
    {"equal", equal, METH_VARARGS, equal_doc},
    {"crc32c", crc32c, METH_O, crc32c_doc},
    {"use", use, METH_O, use_doc},
    {"scan_meta", scan_meta, METH_VARARGS, scan_meta_doc},
    {"scan_walk", scan_walk, METH_VARARGS, scan_walk_doc},
    {"scan_parts", scan_parts, METH_VARARGS, scan_parts_doc},
    {"scan_values", scan_values, METH_O, scan_values_doc},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, start},
#ifdef Py_mod_multiple_interpreters
    {Py_mod_multiple_interpreters, Py_MOD_PER_INTERPRETER_GIL_SUPPORTED},
#endif
#ifdef Py_mod_gil
    {Py_mod_gil, Py_MOD_GIL_NOT_USED},
#endif
    {0, NULL},
};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT,
    .m_name = "_kernel",
    .m_doc = "Loops over the pixels of a frame, and over the elements of a header.",
    .m_methods = methods,
    .m_slots = slots,
};

PyMODINIT_FUNC PyInit__kernel(void) { return PyModuleDef_Init(&module); }
