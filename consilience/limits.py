"""Sizes and thresholds that the computing code and the planning of its costs share. Imports nothing.

Each is defined once here and imported under the same name by the module that works with it, where its effect is described.
"""

FLOAT32_BYTES, FLOAT64_BYTES = 4, 8
#: Smallest number of rows of a score: debiased HSIC divides by n - 3.
ROWS_MIN = 4

# Reading and preparing rows.

#: Rows of a block that is processed at once, so that temporary arrays stay small.
BLOCK_ROWS = 4096
#: Values of a block of rows that is read at once: 16 MB as float32.
BLOCK_VALUES = 1 << 22
#: Bytes of prepared rows kept in memory on each side beyond the layer in use.
PREPARED_BYTES = 512_000_000

# Exact neighbour graphs.

#: Rows and columns of a tile of similarities: enough to fill float32 products of any width, and still near the cache.
TILE_ROWS = 1024
#: Multiply-adds of one task of a tiled graph, less than a second on one core.
PART_STEPS = 2e10
#: Largest number of stripes that the blocks of rows are split into: the amount of data to send back and merge grows with it.
STRIPES_MAX = 64
#: Multiply-adds for each thread from which the verified bfloat16 search is faster than a float32 one.
CERTIFIED_STEPS = 5e11
#: Candidates of the bfloat16 search beyond the k neighbours: as many as k, within these limits.
BEYOND_MIN, BEYOND_MAX = 38, 512
#: Bytes of the n x n similarities of all layers of a side up to which they are kept for permutations and subsamples.
SQUARE_BYTES = 128_000_000

# Approximate neighbour graphs.

#: Training rows for each centroid and for each column, and the smallest training sample.
POINTS_PER_CENTROID, POINTS_PER_COLUMN, SAMPLE_MIN = 40, 16, 1 << 14
#: Training rounds of OPQ.
TURN_ROUNDS = 10

# Confidence intervals.

#: Random halves of the delete-half interval, and the number of rows up to which that method is used.
HALVES, HALVES_ROWS_MAX = 64, 8192
#: Blocks of the block jackknife.
BLOCKS = 10
#: Neighbours in each list that the interval of a k-neighbour score needs: a factor of k, and a minimum. By random halves: so
#: that a half still holds k neighbours of each row but for 1 row in 10^5. By blocks: fewer.
HALVES_FACTOR, HALVES_LIST_MIN = 4.8, 48
BLOCKS_FACTOR, BLOCKS_LIST_MIN = 2, 24
#: Held-out splits: five folds, each held out in turn, repeated with another random split.
FOLDS, REPEATS = 5, 2

# Kernel matrices and products.

#: Bytes of the n x n matrices of all layers up to which they are kept for permutations: one pair of n = 8192, or 60 layers of
#: n = 1024. Above it, each permutation computes their blocks again: as slow as the value itself, but with no more memory.
MATRICES_BYTES = 600_000_000
#: Bytes of the points of one side's layers that one pass over blocks holds.
POINTS_BYTES = 256_000_000
#: Multiply-adds up to which products are computed in float64.
EXACT_WORK = 1 << 27
#: Rows up to which rsa with `pairs: auto` uses all pairs, and the number of pairs it uses above.
RSA_ROWS, RSA_PAIRS = 4096, 4_000_000

# Maps.

#: Rows of a block that is translated by a map at once.
TRANSLATION_ROWS = 8192
