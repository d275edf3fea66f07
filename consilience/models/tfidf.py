"""The model `baseline:tfidf-svd`: latent semantic analysis of word counts, a lower bound for any language model."""

import re
from collections.abc import Iterable, Sequence

import numpy as np
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer

from consilience.contract.datasets import ViewKind
from consilience.contract.records import ModelRecord
from consilience.errors import InvalidRequest
from consilience.models.base import Encoded, ModelInput, UnusableItem, find_layer_indices, library_versions

#: A word, or a part of an identifier such as `parse_qs` or `HTTPServer`.
WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+|[^\W\d_a-zA-Z]+")
FEATURES_MAX = 100_000


def split_words(text: str) -> list[str]:
    """Return the words of a text or of code, in lower case."""
    return [word.lower() for word in WORDS.findall(text)]


class TfidfSvdModel:
    """Model of texts by TF-IDF weights of their words, reduced to `dim` dimensions by a truncated SVD.

    The model is fitted to the items that it embeds (Deerwester et al. 1990, Indexing by Latent Semantic Analysis).
    """

    kinds: frozenset[ViewKind] = frozenset({"text", "code"})

    def __init__(self, identifier: str, dim: int, seed: int) -> None:
        self._identifier, self._dim, self._seed = identifier, dim, seed
        self._words = TfidfVectorizer(
            lowercase=False,  # split_words needs the capitals
            tokenizer=split_words,
            token_pattern=None,
            sublinear_tf=True,
            max_features=FEATURES_MAX,
            dtype=np.float32,
        )
        self._svd: TruncatedSVD | None = None

    def fit(self, items: Iterable[ModelInput]) -> None:
        """See `FittableModel.fit`."""
        try:
            weights = self._words.fit_transform(_check(items))
        except ValueError as error:
            raise InvalidRequest(
                f"{self._identifier} cannot be fitted: the texts have no words.", value=self._identifier
            ) from error
        self._svd = TruncatedSVD(min(self._dim, *weights.shape), random_state=self._seed).fit(weights)

    @property
    def layers(self) -> tuple[tuple[str, int], ...]:
        """The only layer; its dim is smaller than requested if the texts have fewer dimensions."""
        return (("0", self._fitted.n_components),)

    @property
    def record(self) -> ModelRecord:
        """Description of the model; it is fitted to the dataset that the set's record names."""
        return ModelRecord(
            model=self._identifier,
            pooling="built_in",
            preparation={"dim": str(self._fitted.n_components), "seed": str(self._seed), "words": WORDS.pattern},
            dtype="float32",
            libraries=library_versions("scikit-learn", "scipy", "numpy"),
            device="cpu",
        )

    def encode(self, items: Sequence[ModelInput], layers: Sequence[str]) -> Encoded:
        """See `EmbeddingModel.encode`."""
        indices = find_layer_indices(self.layers, layers)
        rows = np.asarray(self._fitted.transform(self._words.transform(_check(items))), np.float32)
        return Encoded((rows,) * len(indices))

    @property
    def _fitted(self) -> TruncatedSVD:
        if self._svd is None:
            raise InvalidRequest(f"{self._identifier} must be fitted to all items before it can embed them.")
        return self._svd


def _check(items: Iterable[ModelInput]) -> Iterable[str]:
    for index, item in enumerate(items):
        if not isinstance(item, str):
            raise UnusableItem("The model embeds texts, not images.", index=index)
        yield item
