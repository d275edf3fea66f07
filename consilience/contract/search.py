"""How neighbours are searched: which builder makes a graph, how many rows ask, and how large the gallery is."""

import re
from dataclasses import dataclass
from math import isqrt
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Discriminator, Field, Tag, model_validator

from consilience.contract.base import Level, Request
from consilience.errors import InvalidRequest

#: Builders of exact graphs. auto: the fastest for the shape on the processor at hand. faiss: a flat FAISS search. symmetric:
#: every tile of the similarity matrix serves its rows and its columns. verified_bf16: candidates in bfloat16, decided in
#: float32.
ExactBuilder = Literal["auto", "faiss", "symmetric", "verified_bf16"]

_TURN = r"(?:(?:(?:PCAR?|RR)[1-9]\d{0,3}|OPQ[1-9]\d{0,3}(?:_[1-9]\d{0,3})?),)?"
_CODE = r"(?:SQ[468]|SQ(?:fp|bf)16|PQ[1-9]\d{0,2}(?:x(?:4|6|8|10|12))?)"
#: FAISS crashes with a single link.
_HNSW = r"HNSW(?:[2-9]|[1-9]\d{1,2})"
_LISTS = rf"IVF[1-9]\d{{0,4}}(?:_{_HNSW})?,(?:Flat|{_CODE})"
_LINKS = rf"{_HNSW}(?:,(?:Flat|{_CODE}))?"
#: What the FAISS index factory is given: inverted lists, a graph or codes, after an optional rotation. Never a path, and never
#: `Flat` alone, which is exact.
INDEX_PATTERN = rf"^(?:auto|{_TURN}(?:{_LISTS}|{_LINKS}|{_CODE}))$"

#: Exact queries against which the recall of an approximate index is measured, at least.
RECALL_QUERIES_MIN = 1000
#: Queries from which a standard error can be taken seriously.
QUERIES_MIN = 100
#: Narrower than any number of rows makes an interval.
HALF_WIDTH_MIN = 1e-6
#: Rows that ask first where intervals must become narrow; fewer tell too little of the variance.
QUERIES_PILOT = 1000
#: Sizes of a gallery-size curve.
CURVE_SIZES_MAX = 32


def _check_index(text: str) -> str:
    if not re.fullmatch(INDEX_PATTERN, text):
        raise ValueError(
            "not an index that is known here: write one like IVF1024,Flat, HNSW32, SQ8 or OPQ16,IVF256,PQ16, or auto"
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
    """Errors are about what was meant: the word, or the rule."""
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
            raise ValueError("give exactly one of `queries` and `half_width`")
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
    r"(?:(?P<turn>PCAR?|RR|OPQ)(?P<first>\d+)(?:_(?P<second>\d+))?,)?"
    r"(?:IVF(?P<lists>\d+)(?:_HNSW(?P<list_links>\d+))?,)?"
    r"(?:HNSW(?P<links>\d+),?)?"
    r"(?:(?P<code>Flat|SQ\w+)|PQ(?P<segments>\d+)(?:x(?P<bits>\d+))?)?"
)
#: Bits of a product quantiser's code unless the string says so, and of the one that OPQ turns the rows for.
CODE_BITS = 8
FLOAT32_BITS = 32
_SCALAR_BITS = {"Flat": FLOAT32_BITS, "SQfp16": 16, "SQbf16": 16, "SQ8": 8, "SQ6": 6, "SQ4": 4}
#: Rows that each list is learnt from, at least, where `auto` chooses.
POINTS_PER_LIST = 40
#: `auto` keeps rows as they are up to so many bytes of them, in half of the bits up to so many, else in a quarter.
WHOLE_BYTES = 1_000_000_000
HALVED_BYTES = 8_000_000_000
#: Rows in the lists that a query looks into, unless it says how many lists: a share of all, and not fewer than so many, nor
#: than so many for each neighbour wanted.
PROBED_SHARE = 1 / 32
PROBED_ROWS = 2000
PROBED_PER_NEIGHBOUR = 50
#: Breadth of the search in a graph, unless it is given.
BREADTH = 128
#: Candidates for each neighbour wanted, where codes rank them roughly.
SPARE_FEW_BITS = 2
SPARE_WORDS = 4


@dataclass(frozen=True)
class IndexShape:
    """The parts of an index-factory string.

    Attributes
    ----------
    text : the string itself
    turn : PCA, PCAR, RR or OPQ; None where rows are not turned
    turn_segments : what OPQ turns the rows for
    turn_dim : columns after the turn; None: as before
    lists, list_links : inverted lists, and links a list where the lists are found by a graph
    links : links a row, where rows are linked
    code : Flat, SQ8, ..., or PQ
    segments, bits : of a product quantiser
    """

    text: str
    turn: str | None
    turn_segments: int | None
    turn_dim: int | None
    lists: int | None
    list_links: int | None
    links: int | None
    code: str
    segments: int | None
    bits: int

    @property
    def exhaustive(self) -> bool:
        """Whether a query looks at the code of every row."""
        return self.lists is None and self.links is None

    @property
    def spare(self) -> int:
        """Candidates to be asked for, for each neighbour that is wanted; the rows themselves decide between them."""
        if self.segments is not None or self.turn_dim is not None:
            return SPARE_WORDS
        return 1 if _SCALAR_BITS[self.code] >= CODE_BITS else SPARE_FEW_BITS

    def code_bits(self, d: int) -> int:
        """Bits that a row of d columns takes."""
        if self.segments is not None:
            return self.segments * self.bits
        return _SCALAR_BITS[self.code] * (self.turn_dim or d)

    def check(self, n: int, d: int) -> None:
        """Refuse what FAISS refuses for n rows of d columns, and what would grow without use.

        Raises
        ------
        InvalidRequest
        """
        dim = self.turn_dim or d
        self._require((self.lists or 1) <= n, f"there are not {self.lists} rows to learn its lists from", n)
        if self.turn in ("PCA", "PCAR"):
            self._require(dim <= min(n, d), f"{n} rows of {d} columns have no {dim} principal axes", min(n, d))
        self._require(dim <= 2 * d, f"{d} columns are turned into more than twice as many", 2 * d)
        for segments, bits in ((self.turn_segments, CODE_BITS), (self.segments, self.bits)):
            if segments is not None:
                self._require(dim % segments == 0, f"{segments} does not divide {dim} columns", dim)
                self._require(2**bits <= n, f"there are not {2**bits} rows to learn its codes from", n)

    def _require(self, sound: bool, why: str, limit: int) -> None:
        if not sound:
            raise InvalidRequest(
                f"The index {self.text} does not suit the rows: {why}.",
                value=self.text,
                limit=limit,
                hint="Choose another index, or `auto`.",
                pointer="/builder/index",
            )


def parse_index(text: str) -> IndexShape:
    """Take a string apart that has the form of `search.INDEX_PATTERN` and is not `auto`."""
    found = _PARTS.fullmatch(text)
    if found is None:
        raise InvalidRequest(f"{text} is no index.", value=text, hint="Use `auto`.", pointer="/builder/index")

    def number(part: str) -> int | None:
        return int(found[part]) if found[part] else None

    opq = found["turn"] == "OPQ"
    return IndexShape(
        text=text,
        turn=found["turn"],
        turn_segments=number("first") if opq else None,
        turn_dim=number("second" if opq else "first"),
        lists=number("lists"),
        list_links=number("list_links"),
        links=number("links"),
        code="PQ" if found["segments"] else found["code"] or "Flat",
        segments=number("segments"),
        bits=number("bits") or CODE_BITS,
    )


@dataclass(frozen=True)
class ChosenIndex:
    """The index in force, and how far it is searched.

    Attributes
    ----------
    effort : lists probed, or breadth of the search in a graph; None where the code of every row is looked at
    """

    shape: IndexShape
    effort: int | None


def choose_index(choice: Approximate, n: int, d: int, k: int) -> ChosenIndex:
    """Turn `auto` and a missing effort into what is in force for k neighbours among n rows of d columns.

    Raises
    ------
    InvalidRequest
        The index does not suit the rows.
    """
    shape = parse_index(_auto(n, d) if choice.index == "auto" else choice.index)
    shape.check(n, d)
    if shape.exhaustive and choice.effort is not None:
        raise InvalidRequest(
            f"The index {shape.text} looks at the code of every row, whatever the effort.",
            value=choice.effort,
            hint="Leave the effort out.",
            pointer="/builder/effort",
        )
    return ChosenIndex(shape, _effort(shape, choice.effort, n, k))


def _auto(n: int, d: int) -> str:
    """About 4 sqrt(n) lists, of rows as they are where they fit, else of scalar codes."""
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
