"""How neighbours are searched: which builder makes a graph, how many rows ask, and how large the gallery is."""

import re
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Discriminator, Field, Tag, model_validator

from consilience.contract.base import Level, Request

#: Builders of exact graphs. auto: the fastest for the shape on the processor at hand. faiss: a flat FAISS search. symmetric:
#: every tile of the similarity matrix serves its rows and its columns. certified_bf16: candidates in bfloat16, decided in
#: float32.
ExactBuilder = Literal["auto", "faiss", "symmetric", "certified_bf16"]

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
    """An approximate graph by a FAISS index: its recall is measured, and its scores are never called exact."""

    index: Annotated[
        str,
        Field(max_length=64, examples=["IVF1024,Flat", "HNSW32", "SQ8"], json_schema_extra={"pattern": INDEX_PATTERN}),
        AfterValidator(_check_index),
    ] = Field(default="auto", description="index-factory string of FAISS; auto: by the number of rows")
    effort: Annotated[int, Field(strict=True, ge=1, le=65_536)] | None = Field(
        default=None, description="inverted lists probed, or breadth of the search in a graph; null: by the index"
    )
    recall_queries: Annotated[int, Field(strict=True, ge=RECALL_QUERIES_MIN, le=100_000)] = Field(
        default=RECALL_QUERIES_MIN,
        description="rows whose exact neighbours the recall is measured on; at most all rows",
    )


def _kind(value: object) -> str:
    """Errors are about what was meant: the word, or the rule."""
    return "word" if isinstance(value, str) else "rule"


BuilderChoice = Annotated[
    Annotated[ExactBuilder, Tag("word")] | Annotated[Approximate, Tag("rule")], Discriminator(_kind)
]


class Estimate(Request):
    """Some rows ask, all rows answer: an unbiased estimate of a neighbour score, with its standard error.

    The gallery is never sampled. Metrics that are sums over the features are exact all the same.
    """

    queries: Annotated[int, Field(strict=True, ge=QUERIES_MIN)] | None = Field(
        default=None, description="how many rows ask; at most all rows, which is exact"
    )
    half_width: Annotated[float, Field(ge=HALF_WIDTH_MIN, lt=1.0)] | None = Field(
        default=None,
        description="rows are drawn until the interval of every neighbour score is at most this wide each way",
    )
    level: Level = Field(default=0.95, description="of the interval that half_width is of")

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
