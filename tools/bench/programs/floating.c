// Floating point.
#include "work.h"
#include <complex.h>
#include <math.h>

static uint64_t dgemm(long rounds) {
    enum { N = 96 };
    static double a[N][N], b[N][N], c[N][N];
    for (int i = 0; i < N; i++)
        for (int j = 0; j < N; j++) {
            a[i][j] = 1.0 / (i + j + 1);
            b[i][j] = (i * 3 + j) % 17 - 8.5;
        }
    while (rounds-- > 0) {
        for (int i = 0; i < N; i++)
            for (int k = 0; k < N; k++) {
                double factor = a[i][k];
                for (int j = 0; j < N; j++) c[i][j] += factor * b[k][j];
            }
        a[rounds % N][7] *= 1.0000001;
    }
    uint64_t hash = 0;
    for (int i = 0; i < N; i++) hash = mix(hash, bits(c[i][i]));
    return hash;
}

enum { FFT = 1024 };

static void fft(double complex *x, const double complex *roots) {
    for (unsigned i = 1, j = 0; i < FFT; i++) {
        unsigned bit = FFT >> 1;
        for (; j & bit; bit >>= 1) j ^= bit;
        j ^= bit;
        if (i < j) {
            double complex t = x[i];
            x[i] = x[j];
            x[j] = t;
        }
    }
    for (int size = 2; size <= FFT; size *= 2)
        for (int start = 0; start < FFT; start += size)
            for (int k = 0; k < size / 2; k++) {
                double complex *low = &x[start + k], *high = low + size / 2, r = roots[k * (FFT / size)];
                double re = creal(*high) * creal(r) - cimag(*high) * cimag(r);
                double im = creal(*high) * cimag(r) + cimag(*high) * creal(r);
                double complex t = CMPLX(re, im);
                *high = *low - t;
                *low += t;
            }
}

static uint64_t transforms(long rounds) {
    static double complex x[FFT], roots[FFT / 2];
    for (int i = 0; i < FFT / 2; i++) roots[i] = CMPLX(cos(2 * M_PI * i / FFT), -sin(2 * M_PI * i / FFT));
    for (int i = 0; i < FFT; i++) x[i] = i % 37 - 18;
    uint64_t hash = 0;
    while (rounds-- > 0) {
        fft(x, roots);
        for (int i = 0; i < FFT; i++) x[i] /= 32;
        hash = mix(hash, bits(creal(x[rounds % FFT])));
    }
    return hash;
}

static uint64_t saxpy(long rounds) {
    enum { N = 4096 };
    static float x[N], y[N];
    for (int i = 0; i < N; i++) {
        x[i] = (float)(i % 11) - 5;
        y[i] = (float)(i % 7);
    }
    while (rounds-- > 0) {
        float a = 0.5f + (float)(rounds % 3);
        for (int i = 0; i < N; i++) y[i] = a * x[i] + y[i] * 0.5f;
    }
    uint64_t hash = 0;
    for (int i = 0; i < N; i += 101) hash = mix(hash, bits(y[i]));
    return hash;
}

struct body {
    double x[3], v[3], mass;
};

static uint64_t nbody(long steps) {
    enum { N = 5 };
    struct body b[N];
    uint64_t state = 2463534242u;
    for (int i = 0; i < N; i++) {
        for (int d = 0; d < 3; d++) {
            b[i].x[d] = (double)(next_random(&state) >> 40) / 1e6 - 8;
            b[i].v[d] = (double)(next_random(&state) >> 40) / 1e7 - 0.8;
        }
        b[i].mass = 1.0 / (i + 1);
    }
    while (steps-- > 0) {
        for (int i = 0; i < N; i++)
            for (int j = i + 1; j < N; j++) {
                double d[3], square = 0.01;
                for (int k = 0; k < 3; k++) {
                    d[k] = b[i].x[k] - b[j].x[k];
                    square += d[k] * d[k];
                }
                double factor = 0.001 / (square * sqrt(square));
                for (int k = 0; k < 3; k++) {
                    b[i].v[k] -= d[k] * b[j].mass * factor;
                    b[j].v[k] += d[k] * b[i].mass * factor;
                }
            }
        for (int i = 0; i < N; i++)
            for (int k = 0; k < 3; k++) b[i].x[k] += 0.001 * b[i].v[k];
    }
    uint64_t hash = 0;
    for (int i = 0; i < N; i++) hash = mix(hash, bits(b[i].x[i % 3]));
    return hash;
}

static uint64_t mandelbrot(long side) {
    uint64_t inside = 0;
    for (long row = 0; row < side; row++)
        for (long column = 0; column < side; column++) {
            double cr = 3.0 * column / side - 2, ci = 2.0 * row / side - 1, zr = 0, zi = 0;
            int i = 0;
            for (; i < 100 && zr * zr + zi * zi < 4; i++) {
                double t = zr * zr - zi * zi + cr;
                zi = 2 * zr * zi + ci;
                zr = t;
            }
            inside += (uint64_t)i;
        }
    return inside;
}

static uint64_t convert(long rounds) {
    enum { N = 4096 };
    static int32_t integers[N];
    double sum = 0, low = 0, high = 0;
    uint64_t hash = 0;
    for (int i = 0; i < N; i++) integers[i] = i * 7919 % 65536 - 32768;
    while (rounds-- > 0) {
        for (int i = 0; i < N; i++) {
            double value = integers[i] * 0.7071;
            low = fmin(low, value - sum);
            high = fmax(high, value);
            sum += floor(value) + (float)integers[i] * 0.25f;
            integers[i] ^= (int32_t)value & 0xff;
        }
        hash = mix(hash, (uint64_t)(int64_t)(sum + low + high));
        sum = 0;
    }
    return hash;
}

static const struct work list[] = {{"dgemm", dgemm}, {"fft", transforms},       {"saxpy", saxpy},
                                   {"nbody", nbody}, {"mandelbrot", mandelbrot}, {"convert", convert}};
MAIN(list)
