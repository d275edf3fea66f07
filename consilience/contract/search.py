"""Options of neighbour search: exact and approximate methods, number of query rows, and gallery sizes."""

import re
from dataclasses import dataclass
from math import isqrt
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Discriminator, Field, Tag, model_validator

from consilience.contract.base import Level, Request
from consilience.errors import InvalidRequest

#: Methods for exact neighbour graphs. auto: the fastest method for the shape on this machine. faiss: a flat FAISS search.
#: symmetric: computes each tile of the similarity matrix once, for rows and columns. verified_bf16: finds candidates in
#: bfloat16 and verifies them in float32.
ExactBuilder = Literal["auto", "faiss", "symmetric", "verified_bf16"]

_TRANSFORM = r"(?:(?:(?:PCAR?|RR)[1-9]\d{0,3}|OPQ[1-9]\d{0,3}(?:_[1-9]\d{0,3})?),)?"
_CODE = r"(?:SQ[468]|SQ(?:fp|bf)16|PQ[1-9]\d{0,2}(?:x(?:4|6|8|10|12))?)"
#: FAISS crashes with HNSW1.
_HNSW = r"HNSW(?:[2-9]|[1-9]\d{1,2})"
_LISTS = rf"IVF[1-9]\d{{0,4}}(?:_{_HNSW})?,(?:Flat|{_CODE})"
_LINKS = rf"{_HNSW}(?:,(?:Flat|{_CODE}))?"
#: Allowed strings of the FAISS index factory: inverted lists, a graph or codes, after an optional transform. Paths are not
#: allowed, nor `Flat` alone, which is exact.
INDEX_PATTERN = rf"^(?:auto|{_TRANSFORM}(?:{_LISTS}|{_LINKS}|{_CODE}))$"

#: Minimum number of exact queries that measure the recall of an approximate index.
RECALL_QUERIES_MIN = 1000
#: Minimum number of query rows for a reliable standard error.
QUERIES_MIN = 100
#: Minimum target half-width of an interval.
HALF_WIDTH_MIN = 1e-6
#: Number of query rows in the first round of a search for narrow intervals; fewer estimate the variance badly.
QUERIES_PILOT = 1000
#: Maximum number of sizes of a gallery-size curve.
CURVE_SIZES_MAX = 32


def _check_index(text: str) -> str:
    if not re.fullmatch(INDEX_PATTERN, text):
        raise ValueError(
            f"the index {text!r} is not supported; write, for example, IVF1024,Flat, HNSW32, SQ8, OPQ16,IVF256,PQ16 or auto"
        )
    return text


class Approximate(Request):
    """Approximate nearest-neighbour search with a FAISS index, whose recall is measured."""

    index: Annotated[
        str,
        Field(max_length=64, examples=["IVF1024,Flat", "HNSW32", "SQ8"], json_schema_extra={"pattern": INDEX_PATTERN}),
        AfterValidator(_check_index),
    ] = Field(default="auto", description="FAISS index-factory string, or `auto` to choose one by the number of rows.")
    effort: Annotated[int, Field(strict=True, ge=1, le=65_536)] | None = Field(
        default=None,
        description="Number of inverted lists to probe, or search breadth of a graph index; null uses the default of the "
        "index.",
    )
    recall_queries: Annotated[int, Field(strict=True, ge=RECALL_QUERIES_MIN, le=100_000)] = Field(
        default=RECALL_QUERIES_MIN,
        description="Number of rows whose exact neighbours are computed to measure the recall; capped at the number of "
        "rows.",
    )


def _kind(value: object) -> str:
    """Return the tag of a choice, so that errors refer to the word or to the object."""
    return "word" if isinstance(value, str) else "rule"


BuilderChoice = Annotated[
    Annotated[ExactBuilder, Tag("word")] | Annotated[Approximate, Tag("rule")], Discriminator(_kind)
]


class Estimate(Request):
    """Estimate of neighbour scores from a sample of query rows, unbiased and with a standard error.

    Every row stays in the gallery that is searched. Metrics that are sums over the features are computed exactly in any
    case.
    """

    queries: Annotated[int, Field(strict=True, ge=QUERIES_MIN)] | None = Field(
        default=None, description="Number of query rows; capped at the number of rows, which gives the exact score."
    )
    half_width: Annotated[float, Field(ge=HALF_WIDTH_MIN, lt=1.0)] | None = Field(
        default=None,
        description="Target half-width of the confidence interval: query rows are added until the interval of every "
        "neighbour score is at most this far from its value on each side.",
    )
    level: Level = Field(default=0.95, description="Level of the confidence interval that `half_width` refers to.")

    @model_validator(mode="after")
    def _one_rule(self) -> Self:
        if (self.queries is None) == (self.half_width is None):
            raise ValueError("an estimate needs exactly one of `queries` and `half_width`")
        return self


EstimateChoice = Annotated[
    Annotated[Literal["all"], Tag("word")] | Annotated[Estimate, Tag("rule")], Discriminator(_kind)
]

GallerySizes = Annotated[
    tuple[Annotated[int, Field(strict=True, ge=4)], ...], Field(min_length=1, max_length=CURVE_SIZES_MAX)
]
#: auto: 1000, 3000, 10000, ... up to all rows.
GalleryChoice = Annotated[
    Annotated[Literal["auto"], Tag("word")] | Annotated[GallerySizes, Tag("rule")], Discriminator(_kind)
]


_PARTS = re.compile(
    r"(?:(?P<transform>PCAR?|RR|OPQ)(?P<first>\d+)(?:_(?P<second>\d+))?,)?"
    r"(?:IVF(?P<lists>\d+)(?:_HNSW(?P<list_links>\d+))?,)?"
    r"(?:HNSW(?P<links>\d+),?)?"
    r"(?:(?P<code>Flat|SQ\w+)|PQ(?P<segments>\d+)(?:x(?P<bits>\d+))?)?"
)
#: Default number of bits of the codes of a product quantiser, also of the one that OPQ rotates the rows for.
CODE_BITS = 8
FLOAT32_BITS = 32
_SCALAR_BITS = {"Flat": FLOAT32_BITS, "SQfp16": 16, "SQbf16": 16, "SQ8": 8, "SQ6": 6, "SQ4": 4}
#: Minimum number of rows for each inverted list that `auto` chooses.
POINTS_PER_LIST = 40
#: Sizes in bytes up to which `auto` stores rows in float32 and in float16; larger rows are stored in 8 bits.
WHOLE_BYTES = 1_000_000_000
HALVED_BYTES = 8_000_000_000
#: Number of rows in the lists that a query probes by default: a share of all rows, at least a minimum, and at least a minimum
#: for each requested neighbour.
PROBED_SHARE = 1 / 32
PROBED_ROWS = 2000
PROBED_PER_NEIGHBOUR = 50
#: Default search breadth of a graph index.
BREADTH = 128
#: Number of candidates for each requested neighbour, for codes that rank them roughly.
FEW_BITS_FACTOR = 2
CODEWORD_FACTOR = 4


@dataclass(frozen=True)
class IndexShape:
    """Parts of an index-factory string.

    Attributes
    ----------
    text : the string itself
    transform : PCA, PCAR, RR or OPQ; None without a transform
    transform_segments : number of segments of the quantiser that OPQ rotates the rows for
    transform_dim : number of columns after the transform; None if it does not change
    lists, list_links : number of inverted lists, and links of each list if a graph finds them
    links : number of links of each row in a graph
    code : Flat, SQ8, ..., or PQ
    segments, bits : segments and bits of a product quantiser
    """

    text: str
    transform: str | None
    transform_segments: int | None
    transform_dim: int | None
    lists: int | None
    list_links: int | None
    links: int | None
    code: str
    segments: int | None
    bits: int

    @property
    def exhaustive(self) -> bool:
        """True if a query compares the codes of all rows."""
        return self.lists is None and self.links is None

    @property
    def candidate_factor(self) -> int:
        """Number of candidates for each requested neighbour; the rows themselves decide among them."""
        if self.segments is not None or self.transform_dim is not None:
            return CODEWORD_FACTOR
        return 1 if _SCALAR_BITS[self.code] >= CODE_BITS else FEW_BITS_FACTOR

    def code_bits(self, d: int) -> int:
        """Return the number of bits that the code of a row of d columns takes."""
        if self.segments is not None:
            return self.segments * self.bits
        return _SCALAR_BITS[self.code] * (self.transform_dim or d)

    def check(self, n: int, d: int) -> None:
        """Check that the index is possible for n rows of d columns.

        Raises
        ------
        InvalidRequest
        """
        dim = self.transform_dim or d
        self._require((self.lists or 1) <= n, f"{self.lists} inverted lists need at least as many rows", n)
        if self.transform in ("PCA", "PCAR"):
            self._require(
                dim <= min(n, d), f"{n} rows of {d} columns have fewer than {dim} principal components", min(n, d)
            )
        self._require(dim <= 2 * d, f"the transform produces more than twice the {d} columns", 2 * d)
        for segments, bits in ((self.transform_segments, CODE_BITS), (self.segments, self.bits)):
            if segments is not None:
                self._require(dim % segments == 0, f"the {dim} columns cannot be divided into {segments} segments", dim)
                self._require(2**bits <= n, f"codes of {bits} bits need at least {2**bits} rows", n)

    def _require(self, sound: bool, why: str, limit: int) -> None:
        if not sound:
            raise InvalidRequest(
                f"The index {self.text} is not possible for these rows: {why}.",
                value=self.text,
                limit=limit,
                hint="Choose another index, or `auto`.",
                pointer="/builder/index",
            )


def parse_index(text: str) -> IndexShape:
    """Parse an index-factory string that matches `INDEX_PATTERN` and is not `auto`."""
    found = _PARTS.fullmatch(text)
    if found is None:
        raise InvalidRequest(
            f"The index {text!r} is not supported.", value=text, hint="Use `auto`.", pointer="/builder/index"
        )

    def number(part: str) -> int | None:
        return int(found[part]) if found[part] else None

    opq = found["transform"] == "OPQ"
    return IndexShape(
        text=text,
        transform=found["transform"],
        transform_segments=number("first") if opq else None,
        transform_dim=number("second" if opq else "first"),
        lists=number("lists"),
        list_links=number("list_links"),
        links=number("links"),
        code="PQ" if found["segments"] else found["code"] or "Flat",
        segments=number("segments"),
        bits=number("bits") or CODE_BITS,
    )


@dataclass(frozen=True)
class ChosenIndex:
    """Index and search effort that are used.

    Attributes
    ----------
    effort : number of probed lists, or search breadth of a graph; None for an exhaustive index
    """

    shape: IndexShape
    effort: int | None


def choose_index(choice: Approximate, n: int, d: int, k: int) -> ChosenIndex:
    """Choose the index and the effort for k neighbours among n rows of d columns, if they are `auto` or missing.

    Raises
    ------
    InvalidRequest
        The index is not possible for these rows.
    """
    shape = parse_index(_auto(n, d) if choice.index == "auto" else choice.index)
    shape.check(n, d)
    if shape.exhaustive and choice.effort is not None:
        raise InvalidRequest(
            f"The index {shape.text} compares all rows and has no effort.",
            value=choice.effort,
            hint="Leave out `effort`.",
            pointer="/builder/effort",
        )
    return ChosenIndex(shape, _effort(shape, choice.effort, n, k))


def _auto(n: int, d: int) -> str:
    """Choose about 4 sqrt(n) inverted lists, with scalar codes if the rows are too large."""
    lists = max(1, min(4 * isqrt(n), n // POINTS_PER_LIST))
    size = FLOAT32_BITS // 8 * n * d
    code = "Flat" if size <= WHOLE_BYTES else "SQfp16" if size <= HALVED_BYTES else "SQ8"
    return f"IVF{lists},{code}"


def _effort(shape: IndexShape, wanted: int | None, n: int, k: int) -> int | None:
    if shape.lists is not None:
        rows = max(PROBED_ROWS, int(PROBED_SHARE * n), PROBED_PER_NEIGHBOUR * k)
        return min(shape.lists, wanted or -(-rows * shape.lists // n))
    if shape.links is not None:
        return min(n, wanted or BREADTH)
    return None
