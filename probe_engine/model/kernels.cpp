// The decoder's kernels for CPUs: attention over the block table without gathering it first, and the small operations
// between the matrix products, fused. Plain C++ over raw pointers; built on first use by kernels.py, which also says
// what each argument is. All sums are in float32, whatever the element type.
//
// Layout of the cache, per layer:
//   keys   (block, kv_head, tile, head_dim, width): keys of `width` tokens side by side, so that one vector holds the
//          same component of 16 keys and a dot product needs no sum across lanes
//   values (block, kv_head, token, head_dim)
// width is 16 where block_size is a multiple of it, else block_size; a block has block_size / width tiles.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <vector>

#ifdef __AVX512F__
#include <immintrin.h>
#endif

namespace {

constexpr int64_t LANES = 16;
constexpr int64_t ROWS = 8;  // of a chunk, attended together: with two vectors each, half of the registers
constexpr int64_t STRETCH = 512;  // of a row of logits
constexpr int64_t PANEL = 2 * LANES;  // columns of a matrix product that are computed together
constexpr int64_t AHEAD = 24 * PANEL * 2;  // elements of a panel that are asked for before they are needed
constexpr int64_t NEAR = 1280;  // depth up to which 12 rows of the left side stay in the nearest cache
constexpr int64_t WORTH_THREADS = 1 << 15;  // elements below which waking other threads costs more than it saves

typedef float Floats __attribute__((vector_size(64)));
typedef int32_t Ints __attribute__((vector_size(64)));
typedef uint32_t Words __attribute__((vector_size(64)));
typedef uint16_t Halves __attribute__((vector_size(32)));

struct Bfloat16 {
    uint16_t bits;
};

inline Floats load(const float* from) {
    Floats value;
    std::memcpy(&value, from, sizeof value);
    return value;
}

inline Floats load(const Bfloat16* from) {
#ifdef __AVX512F__  // the general form below becomes two halves and their join
    return (Floats)_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i*)from)), 16);
#else
    Halves halves;
    std::memcpy(&halves, from, sizeof halves);
    return (Floats)(__builtin_convertvector(halves, Words) << 16);
#endif
}

inline void store(float* to, Floats value) { std::memcpy(to, &value, sizeof value); }

inline void store(Bfloat16* to, Floats value) {
    const Words bits = (Words)value;
    const Words rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;  // to nearest, ties to even
    const Words kept = value == value ? rounded : Words{} + 0x7fc0;    // NaN stays NaN
    const Halves halves = __builtin_convertvector(kept, Halves);
    std::memcpy(to, &halves, sizeof halves);
}

inline float scalar(float value) { return value; }

inline float scalar(Bfloat16 value) {
    const uint32_t bits = uint32_t(value.bits) << 16;
    float result;
    std::memcpy(&result, &bits, sizeof result);
    return result;
}

inline float sum(Floats value) {
    float lanes[LANES], total = 0;
    store(lanes, value);
    for (float lane : lanes) total += lane;
    return total;
}

// e to the power of each lane, to 2 units in the last place; below -87 it is as good as nothing (Cephes' expf).
inline Floats exponential(Floats x) {
    x = x < -87.0f ? Floats{} - 87.0f : x;
    x = x > 88.0f ? Floats{} + 88.0f : x;
    const Floats shifted = x * 1.44269504088896341f + 12582912.0f;  // adding 1.5 * 2^23 rounds to a whole number
    const Floats whole = shifted - 12582912.0f;
    const Floats rest = x - whole * 0.693359375f + whole * 2.12194440e-4f;
    Floats power = rest * 1.9875691500e-4f + 1.3981999507e-3f;
    power = power * rest + 8.3334519073e-3f;
    power = power * rest + 4.1665795894e-2f;
    power = power * rest + 1.6666665459e-1f;
    power = power * rest + 5.0000001201e-1f;
    power = power * rest * rest + rest + 1.0f;
    return power * (Floats)((__builtin_convertvector(whole, Ints) + 127) << 23);
}

// Asks memory for `count` elements that are needed soon; into the second cache, which can wait for more at once.
template <class E>
inline void expect(const E* from, int64_t count) {
    for (int64_t d = 0; d < count; d += 64 / sizeof(E)) __builtin_prefetch(from + d, 0, 2);
}

struct Shape {
    int64_t heads, kv_heads, head_dim, block_size;

    int64_t width() const { return block_size % LANES == 0 ? LANES : block_size; }
    int64_t row() const { return (heads + 2 * kv_heads) * head_dim; }  // queries, keys, values of one token
};

// Scores of one query with the keys of one tile.
template <class E>
inline void score_tile(const float* query, const E* tile, int64_t head_dim, int64_t width, float* scores) {
    if (width == LANES) {
        Floats total[4] = {};
        for (int64_t d = 0; d < head_dim; d += 4)
            for (int64_t i = 0; i < 4; ++i) total[i] += query[d + i] * load(tile + (d + i) * LANES);
        store(scores, (total[0] + total[1]) + (total[2] + total[3]));
        return;
    }
    std::fill(scores, scores + width, 0.0f);
    for (int64_t d = 0; d < head_dim; ++d)
        for (int64_t j = 0; j < width; ++j) scores[j] += query[d] * scalar(tile[d * width + j]);
}

// Turns scores into weights in place and returns their sum; `scores` has room for a multiple of LANES.
inline float soften(float* scores, int64_t context) {
    const int64_t padded = (context + LANES - 1) / LANES * LANES;
    std::fill(scores + context, scores + padded, -INFINITY);
    Floats highest = load(scores);
    for (int64_t j = LANES; j < padded; j += LANES) {
        const Floats some = load(scores + j);
        highest = some > highest ? some : highest;
    }
    float lanes[LANES];
    store(lanes, highest);
    const float top = *std::max_element(lanes, lanes + LANES);
    Floats total{};
    for (int64_t j = 0; j < padded; j += LANES) {
        const Floats some = load(scores + j), weight = exponential(some - top);
        const Floats counted = some == -INFINITY ? Floats{} : weight;
        store(scores + j, counted);
        total += counted;
    }
    return sum(total);
}

// Adds the values of `tokens` rows, weighted, to N * LANES sums.
template <int N, class E>
inline void blend(const float* weights, const E* values, int64_t tokens, int64_t stride, float* sums) {
    Floats total[N];
    for (int i = 0; i < N; ++i) total[i] = load(sums + i * LANES);
    for (int64_t j = 0; j < tokens; ++j, values += stride)
        for (int i = 0; i < N; ++i) total[i] += weights[j] * load(values + i * LANES);
    for (int i = 0; i < N; ++i) store(sums + i * LANES, total[i]);
}

// One sequence's queries on kv heads [from, to). Block by block, all heads of each: a block is then read in one run of
// memory, twice as fast as head by head. `scores` has `room` places per head, `sums` head_dim.
template <class E>
void attend_one(const E* qkv, const E* keys, const E* values, const int64_t* table, int64_t context, E* out,
                int64_t from, int64_t to, const Shape& shape, int64_t window, float* queries, float* scores,
                int64_t room, float* sums) {
    const int64_t shared = shape.heads / shape.kv_heads, dim = shape.head_dim, width = shape.width();
    const int64_t head_stride = shape.block_size * dim, block_stride = shape.kv_heads * head_stride;
    const int64_t first = from * shared, last = to * shared;
    const int64_t unseen = window && context > window ? context - window : 0;  // keys that left the window
    const int64_t begin = unseen / width * width;
    const float scale = 1.0f / std::sqrt(float(dim));
    for (int64_t d = first * dim; d < last * dim; d += LANES) store(queries + d, load(qkv + d) * scale);
    for (int64_t at = begin; at < context; at += width) {
        const E* tile = keys + table[at / shape.block_size] * block_stride + at % shape.block_size * dim;
        const bool more = at + width < context;
        const int64_t after = more ? at + width : begin;  // the next keys, then the first values
        const E* next = (more ? keys : values) + table[after / shape.block_size] * block_stride +
                        after % shape.block_size * dim;
        for (int64_t head = first; head < last; ++head) {
            if (head % shared == 0) expect(next + head / shared * head_stride, width * dim);
            score_tile(queries + head * dim, tile + head / shared * head_stride, dim, width,
                       scores + head * room + at - begin);
        }
    }
    for (int64_t head = first; head < last; ++head) {
        float* own = scores + head * room;
        std::fill(own, own + unseen - begin, -INFINITY);
        const float weight = 1.0f / soften(own, context - begin);
        for (int64_t j = 0; j < context - begin; ++j) own[j] *= weight;
    }
    std::fill(sums + first * dim, sums + last * dim, 0.0f);
    for (int64_t at = begin; at < context;) {
        const int64_t place = at % shape.block_size, tokens = std::min(shape.block_size - place, context - at);
        const E* block = values + table[at / shape.block_size] * block_stride + place * dim;
        const E* next = at + tokens < context ? values + table[(at + tokens) / shape.block_size] * block_stride : nullptr;
        for (int64_t head = first; head < last; ++head) {
            const E* rows = block + head / shared * head_stride;
            if (next && head % shared == 0) expect(next + head / shared * head_stride, head_stride);
            const float* weights = scores + head * room + at - begin;
            int64_t d = 0;
            for (; d + 4 * LANES <= dim; d += 4 * LANES) blend<4>(weights, rows + d, tokens, dim, sums + head * dim + d);
            for (; d < dim; d += LANES) blend<1>(weights, rows + d, tokens, dim, sums + head * dim + d);
        }
        at += tokens;
    }
    for (int64_t d = first * dim; d < last * dim; d += LANES) store(out + d, load(sums + d));
}

template <class E>
void attend(const E* qkv, const E* keys, const E* values, const int64_t* tables, const int64_t* contexts, E* out,
            int64_t sequences, int64_t table_width, Shape shape, int64_t window, int threads) {
    const int64_t size = shape.heads * shape.head_dim, room = table_width * shape.block_size + LANES;
    const bool worth = sequences * table_width * shape.block_size * size > 4 * WORTH_THREADS;
    const int64_t parts = std::clamp<int64_t>(worth ? 2 * threads / sequences : 1, 1, shape.kv_heads);
#pragma omp parallel num_threads(threads) if (worth)
    {
        std::vector<float> queries(size), scores(shape.heads * room), sums(size);
#pragma omp for schedule(dynamic)
        for (int64_t task = 0; task < sequences * parts; ++task) {
            const int64_t sequence = task / parts, part = task % parts;
            attend_one(qkv + sequence * shape.row(), keys, values, tables + sequence * table_width, contexts[sequence],
                       out + sequence * size, shape.kv_heads * part / parts, shape.kv_heads * (part + 1) / parts,
                       shape, window, queries.data(), scores.data(), room, sums.data());
        }
    }
}

// Room for one chunk's attention with one kv head: keys and values of all that it sees, as floats.
struct ChunkRoom {
    std::vector<float> keys, values, queries, scores;  // (tile, head_dim, LANES), (key, head_dim), (row, ...) twice
};

// Keys and values [0, context) of one kv head out of the cache, tiles of LANES keys whatever the cache's width.
template <class E>
void read_head(const E* keys, const E* values, const int64_t* table, int64_t context, int64_t kv_head,
               const Shape& shape, ChunkRoom& room) {
    const int64_t dim = shape.head_dim, width = shape.width(), stride = shape.block_size * dim;
    for (int64_t at = 0; at < context; at += width) {
        const int64_t place = at % shape.block_size, tokens = std::min(width, context - at);
        const int64_t base = (table[at / shape.block_size] * shape.kv_heads + kv_head) * stride + place * dim;
        const E *tile = keys + base, *rows = values + base;
        for (int64_t d = 0; d < tokens * dim; d += LANES) store(room.values.data() + at * dim + d, load(rows + d));
        if (width == LANES) {
            for (int64_t d = 0; d < LANES * dim; d += LANES) store(room.keys.data() + at * dim + d, load(tile + d));
            continue;
        }
        for (int64_t j = 0; j < tokens; ++j) {
            float* column = room.keys.data() + (at + j) / LANES * LANES * dim + (at + j) % LANES;
            for (int64_t d = 0; d < dim; ++d) column[d * LANES] = scalar(tile[d * width + j]);
        }
    }
}

// ROWS rows of `left` (row by row, `stride` apart) times N vectors of each of `count` rows of `right`, added up.
template <int N>
inline void multiply(const float* left, int64_t stride, const float* right, int64_t right_stride, int64_t apart,
                     int64_t count, Floats (&total)[ROWS][N]) {
    for (int64_t k = 0; k < count; ++k, right += right_stride) {
        Floats some[N];
#pragma GCC unroll 8
        for (int i = 0; i < N; ++i) some[i] = load(right + i * apart);
#pragma GCC unroll 8
        for (int r = 0; r < ROWS; ++r)
#pragma GCC unroll 8
            for (int i = 0; i < N; ++i) total[r][i] += left[r * stride + k] * some[i];
    }
}

// Up to ROWS rows of one head of a chunk, the first at `position`, with the keys and values in `room`.
template <class E>
void attend_rows(const E* queries, int64_t rows, int64_t position, E* out, const Shape& shape, int64_t window,
                 ChunkRoom& room, int64_t places) {
    const int64_t dim = shape.head_dim, seen = position + rows;  // keys that the last row sees
    const int64_t unseen = window && position + 1 > window ? position + 1 - window : 0;
    const int64_t begin = unseen / LANES * LANES, end = (seen + LANES - 1) / LANES * LANES;
    const float scale = 1.0f / std::sqrt(float(dim));
    float* scores = room.scores.data();
    std::fill(room.queries.begin(), room.queries.end(), 0.0f);
    for (int64_t r = 0; r < rows; ++r)
        for (int64_t d = 0; d < dim; d += LANES)
            store(room.queries.data() + r * dim + d, load(queries + r * shape.row() + d) * scale);
    for (int64_t at = begin; at < end; at += 2 * LANES) {
        Floats total[ROWS][2] = {};
        multiply<2>(room.queries.data(), dim, room.keys.data() + at * dim, LANES, LANES * dim, dim, total);
        for (int r = 0; r < ROWS; ++r)
            for (int i = 0; i < 2; ++i) store(scores + r * places + at - begin + i * LANES, total[r][i]);
    }
    float shares[ROWS];
    for (int64_t r = 0; r < ROWS; ++r) {
        float* own = scores + r * places;
        const int64_t context = std::min(position + r, seen - 1) + 1 - begin;  // of a row that is not there: the last's
        if (window) std::fill(own, own + std::max<int64_t>(context - window, 0), -INFINITY);
        shares[r] = 1.0f / soften(own, context);
        std::fill(own + (context + LANES - 1) / LANES * LANES, own + end - begin, 0.0f);
    }
    for (int64_t d = 0; d < dim; d += 2 * LANES) {
        Floats total[ROWS][2] = {};
        multiply<2>(scores, places, room.values.data() + begin * dim + d, dim, LANES, seen - begin, total);
        for (int64_t r = 0; r < rows; ++r)
            for (int i = 0; i < 2; ++i)
                store(out + r * shape.heads * dim + d + i * LANES, total[r][i] * shares[r]);
    }
}

// Attention of chunks of several rows: chunk c has the rows from firsts[c] of qkv and out, lengths[c] of them, at the
// positions from starts[c].
template <class E>
void attend_chunks(const E* qkv, const E* keys, const E* values, const int64_t* tables, const int64_t* firsts,
                   const int64_t* starts, const int64_t* lengths, E* out, int64_t chunks, int64_t table_width,
                   Shape shape, int64_t window, int threads) {
    const int64_t dim = shape.head_dim, shared = shape.heads / shape.kv_heads, size = shape.heads * dim;
    const int64_t places = (table_width * shape.block_size + 2 * LANES) / LANES * LANES + LANES;
#pragma omp parallel num_threads(threads) if (threads > 1)
    {
        ChunkRoom room;
        room.keys.resize(places * dim), room.values.resize(places * dim);
        room.queries.resize(ROWS * dim), room.scores.resize(ROWS * places);
#pragma omp for schedule(dynamic)
        for (int64_t task = 0; task < chunks * shape.kv_heads; ++task) {
            const int64_t chunk = task / shape.kv_heads, kv_head = task % shape.kv_heads, length = lengths[chunk];
            read_head(keys, values, tables + chunk * table_width, starts[chunk] + length, kv_head, shape, room);
            for (int64_t head = kv_head * shared; head < (kv_head + 1) * shared; ++head)
                for (int64_t row = 0; row < length; row += ROWS)
                    attend_rows(qkv + (firsts[chunk] + row) * shape.row() + head * dim, std::min(ROWS, length - row),
                                starts[chunk] + row, out + (firsts[chunk] + row) * size + head * dim, shape, window,
                                room, places);
        }
    }
}

// Turns queries and keys of each row by its position, in place, and stores keys and values in the cache.
template <class E>
void rotate_and_store(E* qkv, const int64_t* positions, const int64_t* slots, const float* cosines, const float* sines,
                      E* keys, E* values, int64_t rows, Shape shape, int threads) {
    const int64_t dim = shape.head_dim, half = dim / 2, width = shape.width();
    const int64_t turned = shape.heads + shape.kv_heads;
#pragma omp parallel for num_threads(threads) if (rows * shape.row() > WORTH_THREADS)
    for (int64_t row = 0; row < rows; ++row) {
        const float *cosine = cosines + positions[row] * half, *sine = sines + positions[row] * half;
        E* token = qkv + row * shape.row();
        for (int64_t head = 0; head < turned; ++head)
            for (int64_t d = 0; d < half; d += LANES) {
                E *low = token + head * dim + d, *high = low + half;
                const Floats a = load(low), b = load(high), c = load(cosine + d), s = load(sine + d);
                store(low, a * c - b * s);
                store(high, b * c + a * s);
            }
        const int64_t block = slots[row] / shape.block_size, place = slots[row] % shape.block_size;
        for (int64_t head = 0; head < shape.kv_heads; ++head) {
            const E* key = token + (shape.heads + head) * dim;
            const E* value = token + (turned + head) * dim;
            const int64_t base = (block * shape.kv_heads + head) * shape.block_size * dim;
            E* column = keys + base + place / width * width * dim + place % width;
            for (int64_t d = 0; d < dim; ++d) column[d * width] = key[d];
            std::memcpy(values + base + place * dim, value, dim * sizeof(E));
        }
    }
}

// hidden += delta (where there is one); normed = hidden / rms(hidden) * weight.
template <class E>
void add_and_norm(E* hidden, const E* delta, const E* weight, E* normed, int64_t rows, int64_t size, float epsilon,
                  int threads) {
#pragma omp parallel for num_threads(threads) if (rows * size > WORTH_THREADS)
    for (int64_t row = 0; row < rows; ++row) {
        E* own = hidden + row * size;
        Floats squares{};
        for (int64_t d = 0; d < size; d += LANES) {
            if (delta) store(own + d, load(own + d) + load(delta + row * size + d));
            const Floats value = load(own + d);
            squares += value * value;
        }
        const float scale = 1.0f / std::sqrt(sum(squares) / float(size) + epsilon);
        for (int64_t d = 0; d < size; d += LANES) store(normed + row * size + d, load(own + d) * scale * load(weight + d));
    }
}

// Norms each query and key head of each row in place, with weights of its own kind.
template <class E>
void norm_heads(E* qkv, const E* query_weight, const E* key_weight, int64_t rows, Shape shape, float epsilon,
                int threads) {
    const int64_t dim = shape.head_dim;
#pragma omp parallel for num_threads(threads) if (rows * shape.row() > WORTH_THREADS)
    for (int64_t row = 0; row < rows; ++row)
        for (int64_t head = 0; head < shape.heads + shape.kv_heads; ++head) {
            E* own = qkv + row * shape.row() + head * dim;
            const E* weight = head < shape.heads ? query_weight : key_weight;
            Floats squares{};
            for (int64_t d = 0; d < dim; d += LANES) squares += load(own + d) * load(own + d);
            const float scale = 1.0f / std::sqrt(sum(squares) / float(dim) + epsilon);
            for (int64_t d = 0; d < dim; d += LANES) store(own + d, load(own + d) * scale * load(weight + d));
        }
}

// Weights of 8 or 4 bits back to elements, each times the scale of its group. 8 bits: a signed byte each. 4 bits: of 32
// weights in a row, byte i holds weight i in its low half and weight i + 16 in its high half, both plus 8.
template <class E>
void unpack(const uint8_t* packed, const float* scales, E* out, int64_t rows, int64_t columns, int64_t groups, int bits,
            int threads) {
    typedef uint8_t Bytes __attribute__((vector_size(16)));
    typedef int8_t SignedBytes __attribute__((vector_size(16)));
    const int64_t group = columns / groups;
#pragma omp parallel for num_threads(threads) if (rows * columns > WORTH_THREADS)
    for (int64_t row = 0; row < rows; ++row)
        for (int64_t g = 0; g < groups; ++g) {
            const float scale = scales[row * groups + g];
            const uint8_t* from = packed + (row * columns + g * group) * bits / 8;
            E* to = out + row * columns + g * group;
            for (int64_t d = 0; d < group; d += 2 * LANES) {
                if (bits == 8) {
                    SignedBytes low, high;
                    std::memcpy(&low, from + d, sizeof low);
                    std::memcpy(&high, from + d + LANES, sizeof high);
                    store(to + d, __builtin_convertvector(low, Floats) * scale);
                    store(to + d + LANES, __builtin_convertvector(high, Floats) * scale);
                } else {
                    Bytes both;
                    std::memcpy(&both, from + d / 2, sizeof both);
                    store(to + d, (__builtin_convertvector(both & 15, Floats) - 8.0f) * scale);
                    store(to + d + LANES, (__builtin_convertvector(both >> 4, Floats) - 8.0f) * scale);
                }
            }
        }
}

// out = silu(gate) * up, of rows that hold gate and up side by side.
template <class E>
void gate(const E* gate_up, E* out, int64_t rows, int64_t size, int threads) {
#pragma omp parallel for num_threads(threads) if (rows * size > WORTH_THREADS)
    for (int64_t row = 0; row < rows; ++row)
        for (int64_t d = 0; d < size; d += LANES) {
            const Floats x = load(gate_up + row * 2 * size + d), up = load(gate_up + (row * 2 + 1) * size + d);
            store(out + row * size + d, x / (1.0f + exponential(-x)) * up);
        }
}

// The first of the largest of each row; NaN is never larger.
template <class E>
void likeliest(const E* logits, int64_t* out, int64_t rows, int64_t size, int threads) {
#pragma omp parallel for num_threads(threads) if (rows * size > WORTH_THREADS)
    for (int64_t row = 0; row < rows; ++row) {
        const E* own = logits + row * size;
        float top = -INFINITY;
        int64_t first = 0;
        for (int64_t begin = 0; begin < size; begin += STRETCH) {  // the stretch with the largest, then its place there
            const int64_t end = std::min(begin + STRETCH, size);
            Floats best = Floats{} - INFINITY;
            int64_t d = begin;
            for (; d + LANES <= end; d += LANES) {
                const Floats some = load(own + d);
                best = some > best ? some : best;
            }
            float lanes[LANES];
            store(lanes, best);
            float highest = *std::max_element(lanes, lanes + LANES);
            for (; d < end; ++d) highest = std::max(highest, scalar(own[d]));
            if (highest > top) top = highest, first = begin;
        }
        while (first < size - 1 && scalar(own[first]) != top) ++first;
        out[row] = first;
    }
}

#ifdef __AVX512BF16__
// R rows of `left` times one panel of a weight: (depth / 2, PANEL, 2), so that a vector holds two depths of 16 columns.
// A GATED panel has 16 columns of the gate and the same 16 of up, of which silu(gate) * up remains.
template <int R, bool GATED>
inline void multiply_panel(const Bfloat16* left, const Bfloat16* panel, const Bfloat16* bias, Bfloat16* out,
                           int64_t depth, int64_t columns) {
    __m512 total[R][2];
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r)
        for (int i = 0; i < 2; ++i) total[r][i] = bias ? (__m512)load(bias + i * LANES) : _mm512_setzero_ps();
    for (int64_t k = 0; k < depth; k += 2, panel += 2 * PANEL) {
        const __m512bh low = (__m512bh)_mm512_loadu_si512(panel), high = (__m512bh)_mm512_loadu_si512(panel + PANEL);
        _mm_prefetch((const char*)(panel + AHEAD), _MM_HINT_T0);
        _mm_prefetch((const char*)(panel + AHEAD + PANEL), _MM_HINT_T0);
#pragma GCC unroll 16
        for (int r = 0; r < R; ++r) {
            int32_t pair;
            std::memcpy(&pair, left + r * depth + k, sizeof pair);
            const __m512bh both = (__m512bh)_mm512_set1_epi32(pair);
            total[r][0] = _mm512_dpbf16_ps(total[r][0], both, low);
            total[r][1] = _mm512_dpbf16_ps(total[r][1], both, high);
        }
    }
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
        const Floats first = (Floats)total[r][0], second = (Floats)total[r][1];
        if (GATED) {
            store(out + r * columns, first / (1.0f + exponential(-first)) * second);
        } else {
            store(out + r * columns, first);
            store(out + r * columns + LANES, second);
        }
    }
}

// out (rows, columns) = left (rows, depth) times a weight of panels (columns / PANEL or, GATED, / LANES).
template <bool GATED>
void multiply_panels(const Bfloat16* left, const Bfloat16* weight, const Bfloat16* bias, Bfloat16* out, int64_t rows,
                     int64_t columns, int64_t depth, int threads) {
    constexpr int64_t WIDTH = GATED ? LANES : PANEL;
#pragma omp parallel for num_threads(threads) if (threads > 1 && rows * columns > WORTH_THREADS)
    for (int64_t column = 0; column < columns; column += WIDTH) {
        const Bfloat16 *panel = weight + column / WIDTH * PANEL * depth, *own = bias ? bias + column : nullptr;
        int64_t row = 0;
        const auto next = [&](auto step) {
            constexpr int R = decltype(step)::value;
            for (; row + R <= rows; row += R)
                multiply_panel<R, GATED>(left + row * depth, panel, own, out + row * columns + column, depth, columns);
        };
        if (depth <= NEAR) next(std::integral_constant<int, 12>{});
        next(std::integral_constant<int, 8>{});
        next(std::integral_constant<int, 4>{});
        next(std::integral_constant<int, 2>{});
        next(std::integral_constant<int, 1>{});
    }
}
#endif

}  // namespace

#define KERNELS(SUFFIX, E)                                                                                            \
    extern "C" void attend_##SUFFIX(const void* qkv, const void* keys, const void* values, const int64_t* tables,     \
                                    const int64_t* contexts, void* out, int64_t sequences, int64_t table_width,       \
                                    int64_t heads, int64_t kv_heads, int64_t head_dim, int64_t block_size,            \
                                    int64_t window, int64_t threads) {                                                \
        attend((const E*)qkv, (const E*)keys, (const E*)values, tables, contexts, (E*)out, sequences, table_width,    \
               Shape{heads, kv_heads, head_dim, block_size}, window, int(threads));                                   \
    }                                                                                                                 \
    extern "C" void attend_chunks_##SUFFIX(const void* qkv, const void* keys, const void* values,                     \
                                           const int64_t* tables, const int64_t* firsts, const int64_t* starts,       \
                                           const int64_t* lengths, void* out, int64_t chunks, int64_t table_width,    \
                                           int64_t heads, int64_t kv_heads, int64_t head_dim, int64_t block_size,     \
                                           int64_t window, int64_t threads) {                                         \
        attend_chunks((const E*)qkv, (const E*)keys, (const E*)values, tables, firsts, starts, lengths, (E*)out,      \
                      chunks, table_width, Shape{heads, kv_heads, head_dim, block_size}, window, int(threads));       \
    }                                                                                                                 \
    extern "C" void rotate_and_store_##SUFFIX(void* qkv, const int64_t* positions, const int64_t* slots,              \
                                              const float* cosines, const float* sines, void* keys, void* values,     \
                                              int64_t rows, int64_t heads, int64_t kv_heads, int64_t head_dim,        \
                                              int64_t block_size, int64_t threads) {                                  \
        rotate_and_store((E*)qkv, positions, slots, cosines, sines, (E*)keys, (E*)values, rows,                       \
                         Shape{heads, kv_heads, head_dim, block_size}, int(threads));                                 \
    }                                                                                                                 \
    extern "C" void add_and_norm_##SUFFIX(void* hidden, const void* delta, const void* weight, void* normed,          \
                                          int64_t rows, int64_t size, float epsilon, int64_t threads) {               \
        add_and_norm((E*)hidden, (const E*)delta, (const E*)weight, (E*)normed, rows, size, epsilon, int(threads));   \
    }                                                                                                                 \
    extern "C" void norm_heads_##SUFFIX(void* qkv, const void* query_weight, const void* key_weight, int64_t rows,    \
                                        int64_t heads, int64_t kv_heads, int64_t head_dim, float epsilon,             \
                                        int64_t threads) {                                                            \
        norm_heads((E*)qkv, (const E*)query_weight, (const E*)key_weight, rows, Shape{heads, kv_heads, head_dim, 1},  \
                   epsilon, int(threads));                                                                            \
    }                                                                                                                 \
    extern "C" void unpack_##SUFFIX(const void* packed, const void* scales, void* out, int64_t rows, int64_t columns, \
                                    int64_t groups, int64_t bits, int64_t threads) {                                  \
        unpack((const uint8_t*)packed, (const float*)scales, (E*)out, rows, columns, groups, int(bits),               \
               int(threads));                                                                                         \
    }                                                                                                                 \
    extern "C" void likeliest_##SUFFIX(const void* logits, int64_t* out, int64_t rows, int64_t size,                  \
                                       int64_t threads) {                                                             \
        likeliest((const E*)logits, out, rows, size, int(threads));                                                   \
    }                                                                                                                 \
    extern "C" void gate_##SUFFIX(const void* gate_up, void* out, int64_t rows, int64_t size, int64_t threads) {      \
        gate((const E*)gate_up, (E*)out, rows, size, int(threads));                                                   \
    }

KERNELS(float32, float)
KERNELS(bfloat16, Bfloat16)

#ifdef __AVX512BF16__
extern "C" void multiply_bfloat16(const void* left, const void* weight, const void* bias, void* out, int64_t rows,
                                  int64_t columns, int64_t depth, int64_t gated, int64_t threads) {
    (gated ? multiply_panels<true> : multiply_panels<false>)(
        (const Bfloat16*)left, (const Bfloat16*)weight, (const Bfloat16*)bias, (Bfloat16*)out, rows, columns, depth,
        int(threads));
}
#endif
