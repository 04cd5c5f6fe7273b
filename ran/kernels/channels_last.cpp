// BatchNorm and ReLU in as few passes over memory as there can be, for maps whose channels are innermost (NHWC).
//
// A map of P pixels and C channels is read as rows of L elements, L a multiple of C: a table of L entries then serves
// every row, and the loops are long enough for the vector units whatever C is. Rows are cut into chunks whose number
// depends on the map alone, and chunks are added up in their order in double: the result does not depend on the number
// of threads.
//
// Built by build.py with the machine's own compiler; called by ops.py.

#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <new>
#include <vector>

#include <omp.h>

namespace {

struct bf16 {
    uint16_t bits;
};

inline float load(float value) { return value; }

inline float load(bf16 value) {
    uint32_t bits = static_cast<uint32_t>(value.bits) << 16;
    float out;
    std::memcpy(&out, &bits, sizeof out);
    return out;
}

inline void store(float* to, float value) { *to = value; }

inline void store(bf16* to, float value) {  // to the nearest, ties to even
    uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    uint32_t rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
    to->bits = static_cast<uint16_t>(value != value ? 0x7fc0 : rounded);
}

constexpr int64_t ROW = 256;       // elements of a row, at least
constexpr int64_t CHUNK = 128;     // rows of a chunk: few enough to add them up in float
constexpr int PIVOTS = 16;         // pixels whose mean is taken off before squares are added up

struct Shape {
    int64_t pixels, channels, row, chunk, elements, chunks;

    Shape(int64_t p, int64_t c) : pixels(p), channels(c) {
        row = c * ((ROW + c - 1) / c);
        chunk = row * CHUNK;
        elements = p * c;
        chunks = (elements + chunk - 1) / chunk;
    }
};

// The chunks of the calling thread. A second pass takes them backwards: it finds in the cache what the first read last.
struct Share {
    int64_t from, to;

    explicit Share(const Shape& s) {
        int64_t threads = omp_get_num_threads(), thread = omp_get_thread_num();
        from = s.chunks * thread / threads;
        to = s.chunks * (thread + 1) / threads;
    }
};

// Calls body(offset, count) for each row of a chunk, the map's last row being shorter.
template <class Body>
inline void rows(const Shape& s, int64_t chunk, Body body) {
    int64_t from = chunk * s.chunk, to = from + s.chunk < s.elements ? from + s.chunk : s.elements;
    int64_t at = from;
    for (; at + s.row <= to; at += s.row) body(at, s.row);
    if (at < to) body(at, to - at);
}

// Adds a row of float sums to the C double sums of its chunk.
inline void fold(const Shape& s, const float* sums, double* out) {
    for (int64_t c = 0; c < s.channels; ++c) out[c] = 0;
    for (int64_t i = 0; i < s.row; i += s.channels)
        for (int64_t c = 0; c < s.channels; ++c) out[c] += sums[i + c];
}

inline void repeat(const Shape& s, float* table) {
    for (int64_t i = s.channels; i < s.row; ++i) table[i] = table[i - s.channels];
}

// Adds up (chunks, 2, C) sums over the chunks, for the calling thread's share of the channels: calls body(c, first,
// second) for each of them.
template <class Body>
inline void totals(const Shape& s, const std::vector<double>& sums, Body body) {
    int64_t threads = omp_get_num_threads(), thread = omp_get_thread_num();
    int64_t from = s.channels * thread / threads, to = s.channels * (thread + 1) / threads;
    std::vector<double> first(to - from), second(to - from);
    for (int64_t k = 0; k < s.chunks; ++k) {
        const double* row = &sums[2 * k * s.channels] + from;
        for (int64_t i = 0; i < to - from; ++i) first[i] += row[i];
        for (int64_t i = 0; i < to - from; ++i) second[i] += row[s.channels + i];
    }
    for (int64_t c = from; c < to; ++c) body(c, first[c - from], second[c - from]);
}

// The innermost loops, each over a row: functions of their own, so that the compiler may vectorise them.

template <class T>
void add_squares(
    const T* __restrict x, const float* __restrict pivot, float* __restrict first, float* __restrict second, int64_t n
) {
    for (int64_t i = 0; i < n; ++i) {
        float d = load(x[i]) - pivot[i];
        first[i] += d;
        second[i] += d * d;
    }
}

template <class T>
void activate(
    const T* __restrict x, T* __restrict y, const float* __restrict mean, const float* __restrict scale,
    const float* __restrict bias, int64_t n
) {
    for (int64_t i = 0; i < n; ++i) {
        float value = (load(x[i]) - mean[i]) * scale[i] + bias[i];
        store(y + i, value < 0 ? 0.0f : value);  // NaN stays
    }
}

// The gradient where the ReLU let its input through.
inline float behind(float grad, float deviation, float scale, float bias) {
    return deviation * scale + bias <= 0 ? 0.0f : grad;
}

template <class T>
void add_gradients(
    const T* __restrict x, const T* __restrict grad, const float* __restrict mean, const float* __restrict scale,
    const float* __restrict bias, float* __restrict of_grad, float* __restrict of_both, int64_t n
) {
    for (int64_t i = 0; i < n; ++i) {
        float d = load(x[i]) - mean[i], g = behind(load(grad[i]), d, scale[i], bias[i]);
        of_grad[i] += g;
        of_both[i] += g * d;
    }
}

template <bool PASSED, class T>
void descend(
    const T* __restrict x, const T* __restrict grad, const T* __restrict passed, T* __restrict dx,
    const float* __restrict mean, const float* __restrict scale, const float* __restrict bias,
    const float* __restrict mean_grad, const float* __restrict slope, int64_t n
) {
    for (int64_t i = 0; i < n; ++i) {
        float d = load(x[i]) - mean[i], g = behind(load(grad[i]), d, scale[i], bias[i]);
        float value = scale[i] * (g - mean_grad[i] - d * slope[i]);
        store(dx + i, PASSED ? value + load(passed[i]) : value);
    }
}

template <class T>
void apply(const Shape& s, const T* x, T* y, const float* mean, const float* scale, const float* bias) {
    Share mine(s);
    for (int64_t k = mine.to; k-- > mine.from;)
        rows(s, k, [=](int64_t at, int64_t count) { activate(x + at, y + at, mean, scale, bias, count); });
}

template <class T>
void forward(
    const T* x, T* y, const float* weight, const float* bias, float* running_mean, float* running_var, float* saved,
    int64_t pixels, int64_t channels, double momentum, double eps
) {
    Shape s(pixels, channels);
    std::vector<float> pivot(s.row), mean(s.row), scale(s.row), shift(s.row);
    std::vector<double> sums(2 * s.chunks * channels);
    int64_t n = pixels < PIVOTS ? pixels : PIVOTS;
    for (int64_t j = 0; j < n; ++j)
        for (int64_t c = 0; c < channels; ++c) pivot[c] += load(x[j * pixels / n * channels + c]) / n;
    repeat(s, pivot.data());

#pragma omp parallel if (s.chunks > 1)
    {
        std::vector<float> local(2 * s.row);
        Share mine(s);
        for (int64_t k = mine.from; k < mine.to; ++k) {
            std::fill(local.begin(), local.end(), 0.0f);
            float *first = local.data(), *second = first + s.row;
            const float* p = pivot.data();
            rows(s, k, [=](int64_t at, int64_t count) {
                add_squares(x + at, p, first, second, count);
            });
            fold(s, first, &sums[2 * k * channels]);
            fold(s, second, &sums[(2 * k + 1) * channels]);
        }
#pragma omp barrier
        totals(s, sums, [&](int64_t c, double deviations, double squares) {
            double off = deviations / pixels;
            double var = squares / pixels - off * off;
            var = var < 0 ? 0 : var;  // NaN stays
            double m = pivot[c] + off, invstd = 1 / std::sqrt(var + eps);
            mean[c] = saved[c] = static_cast<float>(m);
            saved[channels + c] = static_cast<float>(invstd);
            scale[c] = static_cast<float>(invstd * weight[c]);
            shift[c] = bias[c];
            running_mean[c] = static_cast<float>((1 - momentum) * running_mean[c] + momentum * m);
            running_var[c] =
                static_cast<float>((1 - momentum) * running_var[c] + momentum * var * pixels / (pixels - 1.0));
        });
#pragma omp barrier
#pragma omp single
        {
            repeat(s, mean.data());
            repeat(s, scale.data());
            repeat(s, shift.data());
        }
        apply(s, x, y, mean.data(), scale.data(), shift.data());
    }
}

template <class T>
void infer(
    const T* x, T* y, const float* weight, const float* bias, const float* running_mean, const float* running_var,
    int64_t pixels, int64_t channels, double eps
) {
    Shape s(pixels, channels);
    std::vector<float> mean(s.row), scale(s.row), shift(s.row);
    for (int64_t c = 0; c < channels; ++c) {
        mean[c] = running_mean[c];
        scale[c] = static_cast<float>(weight[c] / std::sqrt(static_cast<double>(running_var[c]) + eps));
        shift[c] = bias[c];
    }
    repeat(s, mean.data());
    repeat(s, scale.data());
    repeat(s, shift.data());
#pragma omp parallel if (s.chunks > 1)
    apply(s, x, y, mean.data(), scale.data(), shift.data());
}

// dx = scale * (g - sum(g)/P - (x - mean) * invstd^2 * sum(g (x - mean))/P) + dpass, g the gradient behind the ReLU.
template <class T>
void backward(
    const T* grad, const T* dpass, const T* x, const float* weight, const float* bias, const float* saved, T* dx,
    float* dweight, float* dbias, int64_t pixels, int64_t channels
) {
    Shape s(pixels, channels);
    std::vector<float> mean(s.row), scale(s.row), shift(s.row), first(s.row), second(s.row);
    std::vector<double> sums(2 * s.chunks * channels);
    for (int64_t c = 0; c < channels; ++c) {
        mean[c] = saved[c];
        scale[c] = static_cast<float>(static_cast<double>(saved[channels + c]) * weight[c]);
        shift[c] = bias[c];
    }
    repeat(s, mean.data());
    repeat(s, scale.data());
    repeat(s, shift.data());
    const float *m = mean.data(), *k = scale.data(), *b = shift.data(), *mean_grad = first.data(), *slope = second.data();

#pragma omp parallel if (s.chunks > 1)
    {
        std::vector<float> local(2 * s.row);
        Share mine(s);
        for (int64_t chunk = mine.from; chunk < mine.to; ++chunk) {
            std::fill(local.begin(), local.end(), 0.0f);
            float *of_grad = local.data(), *of_both = of_grad + s.row;
            rows(s, chunk, [=](int64_t at, int64_t count) {
                add_gradients(x + at, grad + at, m, k, b, of_grad, of_both, count);
            });
            fold(s, of_grad, &sums[2 * chunk * channels]);
            fold(s, of_both, &sums[(2 * chunk + 1) * channels]);
        }
#pragma omp barrier
        totals(s, sums, [&](int64_t c, double sum, double both) {
            double invstd = saved[channels + c];
            dbias[c] = static_cast<float>(sum);
            dweight[c] = static_cast<float>(both * invstd);
            first[c] = static_cast<float>(sum / pixels);
            second[c] = static_cast<float>(both * invstd * invstd / pixels);
        });
#pragma omp barrier
#pragma omp single
        {
            repeat(s, first.data());
            repeat(s, second.data());
        }
        for (int64_t chunk = mine.to; chunk-- > mine.from;)
            rows(s, chunk, [=](int64_t at, int64_t count) {
                if (dpass)
                    descend<true>(x + at, grad + at, dpass + at, dx + at, m, k, b, mean_grad, slope, count);
                else
                    descend<false>(x + at, grad + at, x, dx + at, m, k, b, mean_grad, slope, count);
            });
    }
}

}  // namespace

// 0, or 1 where memory is short.
#define GUARDED(call)                  \
    try {                              \
        call;                          \
        return 0;                      \
    } catch (const std::bad_alloc&) {  \
        return 1;                      \
    }

#define EXPORT(T, NAME)                                                                                               \
    int forward_##NAME(                                                                                               \
        const T* x, T* y, const float* weight, const float* bias, float* running_mean, float* running_var,           \
        float* saved, int64_t pixels, int64_t channels, double momentum, double eps                                   \
    ) {                                                                                                               \
        GUARDED(forward(x, y, weight, bias, running_mean, running_var, saved, pixels, channels, momentum, eps))       \
    }                                                                                                                 \
    int infer_##NAME(                                                                                                 \
        const T* x, T* y, const float* weight, const float* bias, const float* running_mean,                          \
        const float* running_var, int64_t pixels, int64_t channels, double eps                                        \
    ) {                                                                                                               \
        GUARDED(infer(x, y, weight, bias, running_mean, running_var, pixels, channels, eps))                          \
    }                                                                                                                 \
    int backward_##NAME(                                                                                              \
        const T* grad, const T* dpass, const T* x, const float* weight, const float* bias, const float* saved, T* dx, \
        float* dweight, float* dbias, int64_t pixels, int64_t channels                                                \
    ) {                                                                                                               \
        GUARDED(backward(grad, dpass, x, weight, bias, saved, dx, dweight, dbias, pixels, channels))                  \
    }

extern "C" {
EXPORT(float, float32)
EXPORT(bf16, bfloat16)
}
