"""`baseline:tfidf-svd`: which words a text has; what a language model should see more than (latent semantic analysis)."""

import re
from collections.abc import Iterable, Sequence

import numpy as np
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer

from consilience.contract.datasets import ViewKind
from consilience.contract.records import ModelRecord
from consilience.errors import InvalidRequest
from consilience.models.base import Encoded, Item, UnusableItem, find_layer_indices, library_versions

#: A word, or a part of an identifier such as `parse_qs` or `HTTPServer`.
WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+|[^\W\d_a-zA-Z]+")
FEATURES_MAX = 100_000


def split_words(text: str) -> list[str]:
    """The words of a text or of code, in small letters."""
    return [word.lower() for word in WORDS.findall(text)]


class TfidfSvdModel:
    """Texts by their words, weighted by rarity, in the `dim` directions that hold most of them.

    Deerwester et al. 1990, Indexing by Latent Semantic Analysis. It learns from the items that it is to embed.
    """

    kinds: frozenset[ViewKind] = frozenset({"text", "code"})

    def __init__(self, identifier: str, dim: int, seed: int) -> None:
        self._identifier, self._dim, self._seed = identifier, dim, seed
        self._words = TfidfVectorizer(
            lowercase=False,  # find_words needs the capitals
            tokenizer=split_words,
            token_pattern=None,
            sublinear_tf=True,
            max_features=FEATURES_MAX,
            dtype=np.float32,
        )
        self._svd: TruncatedSVD | None = None

    def fit(self, items: Iterable[Item]) -> None:
        """See `Learner.fit`."""
        try:
            weights = self._words.fit_transform(_check(items))
        except ValueError as error:
            raise InvalidRequest("The texts hold no words to learn from.", value=self._identifier) from error
        self._svd = TruncatedSVD(min(self._dim, *weights.shape), random_state=self._seed).fit(weights)

    @property
    def layers(self) -> tuple[tuple[str, int], ...]:
        """One; fewer directions than asked for where the texts do not have more."""
        return (("0", self._fitted.n_components),)

    @property
    def record(self) -> ModelRecord:
        """What was learnt from is the dataset that the set's record names."""
        return ModelRecord(
            model=self._identifier,
            pooling="built_in",
            preparation={"dim": str(self._fitted.n_components), "seed": str(self._seed), "words": WORDS.pattern},
            dtype="float32",
            libraries=library_versions("scikit-learn", "scipy", "numpy"),
            device="cpu",
        )

    def encode(self, items: Sequence[Item], layers: Sequence[str]) -> Encoded:
        """See `Model.encode`."""
        places = find_layer_indices(self.layers, layers)
        rows = np.asarray(self._fitted.transform(self._words.transform(_check(items))), np.float32)
        return Encoded((rows,) * len(places))

    @property
    def _fitted(self) -> TruncatedSVD:
        if self._svd is None:
            raise InvalidRequest(f"{self._identifier} must see all items before it can embed them.")
        return self._svd


def _check(items: Iterable[Item]) -> Iterable[str]:
    for index, item in enumerate(items):
        if not isinstance(item, str):
            raise UnusableItem("The model reads texts, not images.", index=index)
        yield item
