"""Baselines against computations by hand."""

import io

import numpy as np
import pytest
from PIL import Image

from consilience.errors import InvalidRequest
from consilience.models.base import EmbeddingModel, FittableModel, UnusableItem
from consilience.models.registry import open_model
from consilience.models.rules import ModelRules
from tests.models.conftest import TEXTS


def baseline(name: str) -> EmbeddingModel:
    return open_model(f"baseline:{name}", ModelRules())


def png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def test_random_rows_depend_only_on_the_item_and_the_seed() -> None:
    rows = baseline("random?dim=64").encode(TEXTS, ["0"]).rows[0]
    assert rows.shape == (len(TEXTS), 64)
    np.testing.assert_array_equal(baseline("random?dim=64").encode(TEXTS[::-1], ["0"]).rows[0], rows[::-1])
    other = baseline("random?dim=64&seed=1").encode(TEXTS, ["0"]).rows[0]
    assert np.abs(np.corrcoef(np.concatenate([rows, other]))[np.triu_indices(2 * len(TEXTS), 1)]).max() < 0.5
    np.testing.assert_array_equal(
        baseline("random").encode(["a"], ["0"]).rows, baseline("random").encode([b"a"], ["0"]).rows
    )


def test_random_rows_are_standard_normal() -> None:
    rows = baseline("random?dim=4096").encode(TEXTS, ["0"]).rows[0]
    assert abs(rows.mean()) < 0.03
    assert abs(rows.std() - 1) < 0.03


def test_pixels_are_means_of_squares() -> None:
    pixels = np.zeros((4, 4, 3), np.uint8)
    pixels[:2, :2] = (255, 0, 51)
    model = baseline("pixels?size=2")
    (rows,) = model.encode([png(Image.fromarray(pixels))], ["0"]).rows
    assert model.layers == (("0", 12),)
    np.testing.assert_allclose(rows[0], [1, 0, 0.2, *[0] * 9], atol=1e-6)


def test_transparent_pixels_become_white() -> None:
    (rows,) = baseline("pixels?size=1").encode([png(Image.new("RGBA", (3, 3), (0, 0, 0, 0)))], ["0"]).rows
    np.testing.assert_allclose(rows, 1)


@pytest.mark.parametrize("item", [b"", b"no image", "text", png(Image.new("RGB", (64, 64)))[:60]])
def test_an_item_that_is_not_an_image_is_refused_with_its_index(item: str | bytes) -> None:
    with pytest.raises(UnusableItem) as caught:
        baseline("pixels").encode([png(Image.new("L", (2, 2))), item], ["0"])
    assert caught.value.index == 1


@pytest.mark.parametrize("side", [10_000, 20_000])
def test_an_image_with_too_many_pixels_is_not_decoded(side: int) -> None:
    with pytest.raises(UnusableItem, match="too many pixels"):
        baseline("pixels").encode([png(Image.new("1", (side, side)))], ["0"])


def test_tfidf_must_be_fitted_to_all_items_first() -> None:
    model = baseline("tfidf-svd?dim=4")
    assert isinstance(model, FittableModel)
    with pytest.raises(InvalidRequest, match="must be fitted to all items"):
        model.encode(TEXTS, ["0"])
    model.fit(iter(TEXTS))
    assert model.layers == (("0", 4),)
    first = model.encode(TEXTS, ["0"]).rows[0]
    np.testing.assert_allclose(
        np.concatenate([model.encode([text], ["0"]).rows[0] for text in TEXTS]), first, atol=1e-6
    )


def test_tfidf_at_full_rank_keeps_every_cosine_of_the_weighted_words() -> None:
    texts = ["read the file", "readFile", "write a socket", "HTTPSocket write_all"]
    model = baseline("tfidf-svd")
    assert isinstance(model, FittableModel)
    model.fit(texts)
    (rows,) = model.encode(texts, ["0"]).rows
    words = [["read", "the", "file"], ["read", "file"], ["write", "a", "socket"], ["http", "socket", "write", "all"]]
    vocabulary = sorted({word for each in words for word in each})
    counts = np.array([[each.count(word) for word in vocabulary] for each in words], float)
    weighted = counts * (np.log((1 + 4) / (1 + (counts > 0).sum(0))) + 1)
    weighted /= np.linalg.norm(weighted, axis=1, keepdims=True)
    assert model.record.preparation["dim"] == "4"
    np.testing.assert_allclose(rows @ rows.T, weighted @ weighted.T, atol=1e-5)


def test_tfidf_cannot_be_fitted_to_texts_without_words() -> None:
    model = baseline("tfidf-svd")
    assert isinstance(model, FittableModel)
    with pytest.raises(InvalidRequest, match="the texts have no words"):
        model.fit(["...", "---"])
