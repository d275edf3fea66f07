"""Rows that ask for their neighbours: which they are, and what they were told in each layer and gallery.

One random order of all rows decides everything: its first m rows ask, and its first g rows are the gallery of g rows. More
queries extend the ones before, and each gallery lies inside the next.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256

import numpy as np

from consilience.measures.comparison import Comparison, Side
from consilience.numerics.arrays import Float32Array, Float64Array, IdArray
from consilience.numerics.compiled_lists import inner_products
from consilience.numerics.neighbours import NeighbourGraph, scale_exponent
from consilience.numerics.parts import HERE, STEPS_MIN
from consilience.numerics.queries import Found, RingArray, search_queries
from consilience.numerics.rows import Rows, blocks, scaled

#: Which layer of which side.
LayerKey = tuple[str, int]
#: Rows whose similarities to rows of other lists are looked up at a time.
LOOKUP_VALUES = 1 << 22


@dataclass
class Survey:
    """The rows that ask, for all neighbour metrics of one request.

    Attributes
    ----------
    comparison : the two sides
    k : neighbours told to each row
    sizes : rows of each gallery, ascending; the last has all rows
    order : array of shape (n,), int32, all rows in random order
    asked : rows that have asked so far
    """

    comparison: Comparison
    k: int
    sizes: tuple[int, ...]
    order: IdArray
    asked: int = 0
    hits: set[bool] = field(default_factory=set)
    _told: dict[LayerKey, list[Found]] = field(default_factory=dict)
    _second: dict[LayerKey, tuple[IdArray, Found]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Find the gallery that each row is first in."""
        self.rings = self._find_rings()

    @property
    def n(self) -> int:
        """Number of rows of the largest gallery."""
        return self.comparison.n

    def _find_rings(self) -> RingArray | None:
        """The first gallery that each row is in; None where there is one gallery."""
        if len(self.sizes) == 1:
            return None
        rank = np.empty(self.n, np.int64)
        rank[self.order] = np.arange(self.n)
        return np.searchsorted(self.sizes, rank, side="right").astype(np.uint8)

    def ask(self, m: int) -> None:
        """Let the first m rows of the order ask, in every layer of both sides; those who have asked do not ask again."""
        layers = [(name, i) for name in ("a", "b") for i in range(len(self.side(name).layers))]
        for number, layer in enumerate(layers):
            report = partial(self._report, number, len(layers))
            self._told.setdefault(layer, []).append(self._search(layer, self.order[self.asked : m], report))
        self.asked = m

    def _report(self, number: int, layers: int, rows: int) -> None:
        self.comparison.report("neighbours", number * self.n + rows, layers * self.n)

    def side(self, name: str) -> Side:
        """Side a or side b."""
        return self.comparison.a if name == "a" else self.comparison.b

    def _search(self, layer: LayerKey, queries: IdArray, report: Callable[[int], None]) -> Found:
        """Search, or read what an earlier request with these queries has found."""
        side, index = self.side(layer[0]), layer[1]
        shape = (len(self.sizes), len(queries))

        def build(k: int) -> NeighbourGraph:
            exponent = 0 if side.normalise else scale_exponent(side.scan(index).largest)
            found = search_queries(
                queries,
                scaled(side.stream(index), exponent),
                k,
                groups=side.groups,
                rings=self.rings,
                parts=side.parts if float(self.n) * len(queries) * side.layers[index].dim >= STEPS_MIN else HERE,
                report=report,
            )
            return NeighbourGraph(found.ids.reshape(-1, k), found.similarities.reshape(-1, k), "queries")

        def key() -> str:
            chosen = sha256(queries.tobytes()).hexdigest()
            galleries = f"{self.sizes} seed={self.comparison.seed}" if len(self.sizes) > 1 else "all"
            return f"{side.address(index)} queries={chosen} galleries={galleries}"

        graph, hit = side.graphs.graph(key, self.k, build)
        self.hits.add(hit)
        return Found(
            graph.ids[:, : self.k].reshape(*shape, self.k), graph.similarities[:, : self.k].reshape(*shape, self.k)
        )

    def answers(self, side: str, index: int, gallery: int = -1) -> "Answers":
        """What the rows that lie in a gallery were told in one layer."""
        asked = min(self.asked, self.sizes[gallery])
        told = self._told[side, index]
        return Answers(
            survey=self,
            layer=(side, index),
            gallery=gallery,
            queries=self.order[:asked],
            ids=np.concatenate([found.ids[gallery] for found in told])[:asked],
            similarities=np.concatenate([found.similarities[gallery] for found in told])[:asked],
        )

    def second(self, layer: LayerKey, ids: IdArray, gallery: int) -> tuple[IdArray, Float32Array]:
        """The neighbours of rows of a gallery that some query named; they are searched where they have not been yet."""
        known, found = self._second.get(layer, (np.empty(0, np.int32), _nothing(len(self.sizes), self.k)))
        new = np.setdiff1d(ids, known)
        if len(new):
            more = self._search(layer, new, lambda rows: self.comparison.report("neighbours", rows, self.n))
            found = _join(found, more)
            known = np.concatenate([known, new])
            order = np.argsort(known)
            known, found = known[order], Found(found.ids[:, order], found.similarities[:, order])
            self._second[layer] = known, found
        place = np.searchsorted(known, ids)
        return found.ids[gallery, place], found.similarities[gallery, place]


def _nothing(sizes: int, k: int) -> Found:
    return Found(np.empty((sizes, 0, k), np.int32), np.empty((sizes, 0, k), np.float32))


def _join(one: Found, other: Found) -> Found:
    return Found(
        np.concatenate([one.ids, other.ids], axis=1), np.concatenate([one.similarities, other.similarities], axis=1)
    )


@dataclass(frozen=True)
class Answers:
    """The neighbours of the queries of one gallery in one layer, nearest first.

    Attributes
    ----------
    queries : array of shape (m,), int32, ids of the rows that asked
    ids, similarities : arrays of shape (m, k); -1 and 0 where a list ran out
    """

    survey: Survey
    layer: LayerKey
    gallery: int
    queries: IdArray
    ids: IdArray
    similarities: Float32Array

    @property
    def n(self) -> int:
        """Ids are below it."""
        return self.survey.n

    @property
    def size(self) -> int:
        """Rows of the gallery."""
        return self.survey.sizes[self.gallery]

    @property
    def rows(self) -> Rows:
        """Access to the layer's prepared rows."""
        return self.survey.side(self.layer[0]).stream(self.layer[1])

    def first(self, k: int) -> IdArray:
        """The first k ids of each list, C order."""
        return np.ascontiguousarray(self.ids[:, :k])

    def second(self, ids: IdArray) -> tuple[IdArray, Float32Array]:
        """The lists of other rows of the gallery, of ascending ids."""
        return self.survey.second(self.layer, ids, self.gallery)

    def similarities_to(self, ids: IdArray) -> Float32Array:
        """Similarities of each query to the rows of some ids, shape (m, k); those of -1 mean nothing."""
        out = np.empty(ids.shape, np.float32)
        step = max(1, LOOKUP_VALUES // (self.rows.dim * ids.shape[1]))
        for start in range(0, len(ids), step):
            part = slice(start, start + step)
            wanted, place = np.unique(np.append(ids[part].ravel(), self.queries[part]), return_inverse=True)
            local = place.astype(np.int32)
            split = ids[part].size
            rows = self.rows.take(np.maximum(wanted, 0))
            out[part] = inner_products(rows, local[split:], local[:split].reshape(ids[part].shape))
        return out

    def lengths(self, items: IdArray) -> Float64Array:
        """Squared length of some rows: their similarity to themselves."""
        out = np.empty(len(items))
        step = max(1, LOOKUP_VALUES // self.rows.dim)
        for start in range(0, len(items), step):
            rows = self.rows.take(items[start : start + step])
            places = np.arange(len(rows), dtype=np.int32)
            out[start : start + step] = inner_products(rows, places, places[:, None])[:, 0]
        return out

    def mean_similarities(self) -> Float64Array:
        """Mean similarity of each query to all rows of the gallery, itself included."""
        side, index = self.survey.side(self.layer[0]), self.layer[1]
        means = side.keep(
            index, f"means of galleries {self.survey.sizes}", lambda: _gallery_means(self.rows, self.survey)
        )
        out = np.empty(len(self.queries))
        for start in range(0, len(out), 1024):
            part = slice(start, start + 1024)
            out[part] = self.rows.take(self.queries[part]).astype(np.float64) @ means[self.gallery]
        return out


def _gallery_means(rows: Rows, survey: Survey) -> Float64Array:
    """The mean row of each gallery, (S, d), in one pass."""
    sums = np.zeros((len(survey.sizes), rows.dim))
    for start, block in blocks(rows):
        rings = np.zeros(len(block), np.uint8) if survey.rings is None else survey.rings[start : start + len(block)]
        for ring in np.unique(rings):
            sums[ring] += block[rings == ring].sum(axis=0, dtype=np.float64)
    return sums.cumsum(axis=0) / np.array(survey.sizes, np.float64)[:, None]
