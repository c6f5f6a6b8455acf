/* The elements of a common header, walked where they lie.

scan.py says the same in Python: it is the fallback, and what tests hold this file to. It is linked
into _kernel, whose REVISION is that of what is offered here too.

Offsets are 64 bits wide and compared with the length of the buffer before anything is read there;
a length in the file is only ever added to one of them, and what lies beyond the end ends the walk.
Nothing is called while a pointer into the buffer is used but `vr_of`, and bytes do not change. */

#define PY_SSIZE_T_CLEAN
#ifdef DICOM2CACHE_ABI3
#define Py_LIMITED_API 0x030B0000
#endif
#include <Python.h>

#include <stdint.h>
#include <string.h>

#define UNDEFINED 0xFFFFFFFFu
#define ITEM 0xFFFEE000u
#define ITEM_END 0xFFFEE00Du
#define SEQUENCE_END 0xFFFEE0DDu
#define CHARSET 0x00080005u
#define SYNTAX 0x00020010u
#define DEEPEST 16

enum { FINE, UNUSUAL, BEYOND, FAILED }; /* BEYOND: more of the file is needed to say */

typedef struct {
    const uint8_t *data;
    uint64_t size;
    int implicit;
    PyObject *vr_of; /* {tag: VR in the dictionary, or None} as a function */
} Walk;

typedef struct {
    uint32_t tag, length;
    uint64_t start; /* of the value */
    char vr[2];
} Element;

static uint32_t word(const uint8_t *at) { return (uint32_t)(at[0] | at[1] << 8); }

static uint32_t number(const uint8_t *at) { return word(at) | word(at + 2) << 16; }

/* PS3.5 7.1.2: 2 for VRs with 16 bits of length, 4 for those with 32, 0 for what is none. */
static int width_of(const char *vr) {
    static const char narrow[] = "AEASATCSDADSDTFLFDISLOLTPNSHSLSSSTTMUIULUS";
    static const char wide[] = "OBODOFOLOVOWSQSVUCUNURUTUV";
    for (const char *at = narrow; *at; at += 2)
        if (at[0] == vr[0] && at[1] == vr[1]) return 2;
    for (const char *at = wide; *at; at += 2)
        if (at[0] == vr[0] && at[1] == vr[1]) return 4;
    return 0;
}

/* The tag, VR and length of the element at `at`. */
static int element_at(const Walk *w, uint64_t at, int implicit, Element *e) {
    if (at > w->size || w->size - at < 8) return BEYOND;
    const uint8_t *head = w->data + at;
    e->tag = word(head) << 16 | word(head + 2);
    e->start = at + 8;
    e->length = number(head + 4);
    if (implicit || e->tag >> 16 == 0xFFFE) return FINE;
    memcpy(e->vr, head + 4, 2);
    const int width = width_of(e->vr);
    if (!width) return UNUSUAL;
    e->length = word(head + 6);
    if (width == 2) return FINE;
    if (w->size - at < 12) return BEYOND;
    e->length = number(head + 8);
    e->start = at + 12;
    return FINE;
}

/* FINE where an undefined length is that of a sequence, for pydicom too. */
static int is_sequence(const Walk *w, const Element *e) {
    if (!w->implicit) return memcmp(e->vr, "SQ", 2) ? UNUSUAL : FINE;
    if (w->size < 4 || e->start > w->size - 4) return BEYOND;
    PyObject *vr = PyObject_CallFunction(w->vr_of, "I", (unsigned int)e->tag);
    if (!vr) return FAILED;
    int found = UNUSUAL;
    if (!PyUnicode_Check(vr)) {
        const uint8_t *next = w->data + e->start;
        if ((word(next) << 16 | word(next + 2)) == ITEM) found = FINE;
    } else if (PyUnicode_CompareWithASCIIString(vr, "SQ") == 0) {
        found = FINE;
    }
    Py_DECREF(vr);
    return found;
}

static int sequence_end(const Walk *w, uint64_t *at, int depth);

/* `at` behind an item that ends at `stop`, with its last element; or, without one, by itself. */
static int item_end(const Walk *w, uint64_t *at, int ends, uint64_t stop, int depth) {
    while (!ends || *at != stop) {
        Element e;
        if (ends && *at > stop) return UNUSUAL;
        int found = element_at(w, *at, w->implicit, &e);
        if (found) return found;
        if (e.tag == ITEM_END && !ends && !e.length) {
            *at = e.start;
            return FINE;
        }
        if (e.tag >> 16 == 0xFFFE || e.tag == CHARSET) return UNUSUAL;
        if (e.length == UNDEFINED) {
            if ((found = is_sequence(w, &e))) return found;
            *at = e.start;
            if ((found = sequence_end(w, at, depth + 1))) return found;
        } else {
            *at = e.start + e.length;
        }
    }
    return FINE;
}

/* `at` behind a sequence of undefined length, its items walked strictly (PS3.5 7.5). */
static int sequence_end(const Walk *w, uint64_t *at, int depth) {
    for (;;) {
        Element e;
        int found = element_at(w, *at, 1, &e);
        if (found) return found;
        *at = e.start;
        if (e.tag == SEQUENCE_END && !e.length) return FINE;
        if (e.tag != ITEM || depth == DEEPEST) return UNUSUAL;
        const int ends = e.length != UNDEFINED;
        if ((found = item_end(w, at, ends, e.start + e.length, depth))) return found;
    }
}

/* Ascending tags, asked for in ascending order. */
typedef struct {
    const uint8_t *data;
    Py_ssize_t count, at;
} Tags;

static uint32_t tag_at(const Tags *t, Py_ssize_t k) {
    uint32_t tag;
    memcpy(&tag, t->data + 4 * k, 4);
    return tag;
}

static int is_among(Tags *t, uint32_t tag) {
    Py_ssize_t step = 1, low = t->at, high;
    while (low + step <= t->count && tag_at(t, low + step - 1) < tag) {
        low += step;
        step *= 2;
    }
    for (high = low + step < t->count ? low + step : t->count; low < high;) {
        const Py_ssize_t middle = low + (high - low) / 2;
        if (tag_at(t, middle) < tag)
            low = middle + 1;
        else
            high = middle;
    }
    t->at = low;
    return low < t->count && tag_at(t, low) == tag;
}

/* Put {tag: (VR, value)}, of an element whose value is there. */
static int put(PyObject *found, const Walk *w, const Element *e) {
    const char *value = (const char *)w->data + e->start;
    PyObject *tag = PyLong_FromUnsignedLong(e->tag), *raw = NULL;
    const Py_ssize_t length = (Py_ssize_t)e->length;
    if (tag && w->implicit) raw = Py_BuildValue("(Oy#)", Py_None, value, length);
    if (tag && !w->implicit) raw = Py_BuildValue("(y#y#)", e->vr, (Py_ssize_t)2, value, length);
    const int done = raw ? PyDict_SetItem(found, tag, raw) : -1;
    Py_XDECREF(tag);
    Py_XDECREF(raw);
    return done;
}

PyObject *scan_meta(PyObject *Py_UNUSED(module), PyObject *args) {
    Py_buffer data;
    PyObject *answer = NULL;
    const uint8_t *syntax = NULL;
    uint64_t length = 0, at = 132;
    uint32_t last = 0;
    if (!PyArg_ParseTuple(args, "y*", &data)) return NULL;
    const Walk w = {.data = data.buf, .size = (uint64_t)data.len};
    for (;;) {
        Element e;
        const int found = element_at(&w, at, 0, &e);
        if (w.size >= 8 && at <= w.size - 8 && word(w.data + at) != 2) break;
        if (found) goto unusual;
        at = e.start + e.length;
        if (e.tag <= last || at + 12 > w.size) goto unusual;
        last = e.tag;
        if (e.tag != SYNTAX) continue;
        if (memcmp(e.vr, "UI", 2) || !e.length) goto unusual;
        syntax = w.data + e.start, length = e.length;
        if (length > 1 && !syntax[length - 1]) length--;
        for (uint64_t k = 0; k < length; k++)
            if (syntax[k] != '.' && (syntax[k] < '0' || syntax[k] > '9')) goto unusual;
    }
    if (!syntax) goto unusual;
    answer = Py_BuildValue("y#K", (const char *)syntax, (Py_ssize_t)length, (unsigned long long)at);
    PyBuffer_Release(&data);
    return answer;
unusual:
    PyBuffer_Release(&data);
    return Py_NewRef(Py_None);
}

PyObject *scan_walk(PyObject *Py_UNUSED(module), PyObject *args) {
    Py_buffer data, wanted, apart;
    unsigned long long begin;
    unsigned int last;
    Py_ssize_t longest;
    Walk w;
    PyObject *own = NULL, *answer = NULL;
    char *said = NULL;
    if (!PyArg_ParseTuple(args, "y*KIpy*y*nO", &data, &begin, &last, &w.implicit, &wanted, &apart,
                          &longest, &w.vr_of))
        return NULL;
    w.data = data.buf, w.size = (uint64_t)data.len;
    Tags all = {wanted.buf, wanted.len / 4, 0}, some = {apart.buf, apart.len / 4, 0};
    uint64_t at = begin, length = 0;
    int found = FINE, done = 0, is_long = 0;
    own = PyDict_New();
    said = PyMem_Malloc(w.size ? (size_t)w.size : 1); /* of elements, each in the buffer once */
    if (!own || !said) {
        PyErr_NoMemory();
        goto end;
    }
    while (w.size >= 12 && at <= w.size - 12) {
        Element e;
        if ((found = element_at(&w, at, w.implicit, &e))) break;
        if (e.tag <= last || e.tag >> 16 == 0xFFFE) {
            found = UNUSUAL;
            break;
        }
        if (e.tag == 0x7FE00008 || e.tag == 0x7FE00009 || e.tag == 0x7FE00010) {
            done = 1;
            break;
        }
        const int mine = is_among(&all, e.tag);
        uint64_t next = e.start + e.length;
        if (e.length == UNDEFINED) {
            if (mine) found = UNUSUAL;
            if (!found) found = is_sequence(&w, &e);
            next = e.start;
            if (!found) found = sequence_end(&w, &next, 0);
            if (found) break;
        } else if (mine) {
            if (next > w.size) {
                found = BEYOND;
                break;
            }
            if (is_among(&some, e.tag)) {
                if (put(own, &w, &e)) goto end;
            } else {
                memcpy(said + length, w.data + at, (size_t)(next - at));
                length += next - at;
                is_long |= (Py_ssize_t)e.length > longest;
            }
        }
        last = e.tag;
        at = next;
    }
    if (found == FAILED) goto end;
    if (found == UNUSUAL)
        answer = Py_NewRef(Py_None);
    else
        answer = Py_BuildValue("y#OKINN", said, (Py_ssize_t)length, own, (unsigned long long)at, last,
                               PyBool_FromLong(done), PyBool_FromLong(is_long));
end:
    PyMem_Free(said);
    Py_XDECREF(own);
    PyBuffer_Release(&data);
    PyBuffer_Release(&wanted);
    PyBuffer_Release(&apart);
    return answer;
}

PyObject *scan_parts(PyObject *Py_UNUSED(module), PyObject *args) {
    Py_buffer said;
    Walk w = {0};
    if (!PyArg_ParseTuple(args, "y*p", &said, &w.implicit)) return NULL;
    w.data = said.buf, w.size = (uint64_t)said.len;
    PyObject *found = PyDict_New();
    uint64_t at = 0;
    while (found && at < w.size) {
        Element e;
        if (element_at(&w, at, w.implicit, &e) || e.start + e.length > w.size) {
            PyErr_SetString(PyExc_ValueError, "no whole elements");
            Py_CLEAR(found);
        } else if (put(found, &w, &e)) {
            Py_CLEAR(found);
        }
        at = found ? e.start + e.length : at;
    }
    PyBuffer_Release(&said);
    return found;
}

/* ---- values ---------------------------------------------------------------------------------- */

/* Of those that have one meaning whatever else a header says; plain.py has the same as patterns. */
typedef struct {
    const char *at, *end;
} Text;

static int digits(Text *t, int most) {
    int count = 0;
    for (; count < most && t->at < t->end && *t->at >= '0' && *t->at <= '9'; t->at++) count++;
    return count;
}

static int skip(Text *t, const char *one_of) {
    const int found = t->at < t->end && *t->at && strchr(one_of, *t->at);
    t->at += found;
    return found;
}

/* A decimal of at most 20 digits before and after the point, and an exponent of at most 2. */
static int decimal(Text t, double *value) {
    char text[64];
    while (skip(&t, " ")) continue;
    const char *begin = t.at;
    skip(&t, "+-");
    if (!digits(&t, 20)) return UNUSUAL;
    if (skip(&t, ".")) digits(&t, 20);
    if (skip(&t, "eE")) {
        skip(&t, "+-");
        if (!digits(&t, 2)) return UNUSUAL;
    }
    const size_t length = (size_t)(t.at - begin); /* 1 + 20 + 1 + 20 + 2 + 2 at most */
    while (skip(&t, " ")) continue;
    if (t.at != t.end) return UNUSUAL;
    memcpy(text, begin, length);
    text[length] = 0;
    *value = PyOS_string_to_double(text, NULL, NULL);
    return *value == -1.0 && PyErr_Occurred() ? FAILED : FINE;
}

static int real(Text t, PyObject **made) {
    double value;
    const int found = decimal(t, &value);
    if (found) return found;
    return (*made = PyFloat_FromDouble(value)) ? FINE : FAILED;
}

static int place(Text t, PyObject **made) {
    double value[3];
    for (int k = 0; k < 3; k++) {
        Text part = {t.at, t.at};
        while (part.end < t.end && *part.end != '\\') part.end++;
        const int found = (part.end < t.end) == (k < 2) ? decimal(part, value + k) : UNUSUAL;
        if (found) return found;
        t.at = part.end + (k < 2);
    }
    return (*made = Py_BuildValue("[ddd]", value[0], value[1], value[2])) ? FINE : FAILED;
}

static int integer(Text t, PyObject **made) {
    long value = 0;
    while (skip(&t, " ")) continue;
    const int negative = t.at < t.end && *t.at == '-';
    skip(&t, "+-");
    const char *begin = t.at;
    if (!digits(&t, 9)) return UNUSUAL;
    for (; begin < t.at; begin++) value = 10 * value + (*begin - '0');
    while (skip(&t, " ")) continue;
    if (t.at != t.end) return UNUSUAL;
    return (*made = PyLong_FromLong(negative ? -value : value)) ? FINE : FAILED;
}

static int uid(Text t, PyObject **made) {
    const char *begin = t.at;
    while (t.at < t.end && t.at - begin < 64 && (*t.at == '.' || (*t.at >= '0' && *t.at <= '9'))) t.at++;
    const Py_ssize_t length = t.at - begin;
    if (!length || (t.at != t.end && (*t.at || t.at + 1 != t.end))) return UNUSUAL;
    return (*made = PyUnicode_FromStringAndSize(begin, length)) ? FINE : FAILED;
}

static int day(Text t, PyObject **made) {
    const char *begin = t.at;
    if (digits(&t, 8) != 8 || t.at != t.end) return UNUSUAL;
    return (*made = PyUnicode_FromStringAndSize(begin, 8)) ? FINE : FAILED;
}

/* ms since midnight */
static int clock_of(Text t, PyObject **made) {
    char text[16] = "0.";
    int part[6] = {0};
    const char *begin = t.at;
    const int count = digits(&t, 6);
    if (count < 2) return UNUSUAL;
    for (int k = 0; k < count; k++) part[k] = begin[k] - '0';
    if (skip(&t, ".")) {
        const char *fraction = t.at;
        const int more = digits(&t, 6);
        if (!more) return UNUSUAL;
        memcpy(text + 2, fraction, (size_t)more);
    } else {
        text[2] = '0';
    }
    skip(&t, " ");
    if (t.at != t.end) return UNUSUAL;
    const int hours = 10 * part[0] + part[1], minutes = 10 * part[2] + part[3];
    const int seconds = (60 * hours + minutes) * 60 + 10 * part[4] + part[5];
    const double rest = PyOS_string_to_double(text, NULL, NULL);
    if (rest == -1.0 && PyErr_Occurred()) return FAILED;
    return (*made = PyFloat_FromDouble(1000 * ((double)seconds + rest))) ? FINE : FAILED;
}

static int never(Text t, PyObject **made) {
    (void)t, (void)made;
    return UNUSUAL;
}

static const struct {
    uint32_t tag;
    const char *vr;
    int (*read)(Text, PyObject **);
} VALUES[] = {
    {0x00080018, "UI", uid},   {0x00200012, "IS", integer}, {0x00200013, "IS", integer},
    {0x00200032, "DS", place}, {0x00201041, "DS", real},    {0x00181060, "DS", real},
    {0x00541300, "DS", real},  {0x00080022, "DA", day},     {0x00080032, "TM", clock_of},
    {0x0008002A, "DT", never},
};
#define READ 9 /* of them, that have a value */
#define KNOWN ((int)(sizeof VALUES / sizeof *VALUES))

PyObject *scan_values(PyObject *Py_UNUSED(module), PyObject *own) {
    PyObject *made[KNOWN] = {NULL}, *tag, *raw, *answer = NULL;
    Py_ssize_t at = 0;
    int found = FINE;
    if (!PyDict_Check(own)) return PyErr_Format(PyExc_TypeError, "{tag: (VR, value)} is needed");
    while (!found && PyDict_Next(own, &at, &tag, &raw)) {
        char *vr = NULL, *value;
        Py_ssize_t length;
        const unsigned long wanted = PyLong_AsUnsignedLong(tag);
        int k = 0;
        if (wanted == (unsigned long)-1 && PyErr_Occurred()) goto end;
        while (k < KNOWN && VALUES[k].tag != wanted) k++;
        if (k == KNOWN) continue;
        PyObject *said = PyTuple_Check(raw) && PyTuple_Size(raw) == 2 ? PyTuple_GetItem(raw, 0) : NULL;
        if (!said || (said != Py_None && !(vr = PyBytes_AsString(said))) ||
            PyBytes_AsStringAndSize(PyTuple_GetItem(raw, 1), &value, &length)) {
            if (!PyErr_Occurred()) PyErr_SetString(PyExc_TypeError, "(VR, value) is needed");
            goto end;
        }
        if (vr && strcmp(vr, VALUES[k].vr))
            found = UNUSUAL;
        else if (length)
            found = VALUES[k].read((Text){value, value + length}, &made[k]);
    }
    if (found == UNUSUAL) answer = Py_NewRef(Py_None);
    if (found) goto end;
    answer = PyTuple_New(READ);
    for (int k = 0; answer && k < READ; k++) {
        PyTuple_SetItem(answer, k, made[k] ? made[k] : Py_NewRef(Py_None));
        made[k] = NULL;
    }
end:
    for (int k = 0; k < KNOWN; k++) Py_XDECREF(made[k]);
    return answer;
}
