"""The model `baseline:pixels`: the pixels of a shrunk image, a lower bound for any vision model."""

import io
import warnings
from collections.abc import Sequence

import numpy as np
from PIL import Image, UnidentifiedImageError

from consilience.contract.datasets import ViewKind
from consilience.contract.records import ModelRecord
from consilience.models.base import (
    EmbeddingRows,
    Encoded,
    ModelInput,
    UnusableItem,
    find_layer_indices,
    library_versions,
)

FORMATS = ("PNG", "JPEG", "WEBP")


def decode_image(item: ModelInput, index: int) -> Image.Image:
    """Decode the image of an item to RGB, with transparency over white.

    Raises
    ------
    UnusableItem
        The item is not an image, or is a damaged image, or has too many pixels.
    """
    if isinstance(item, str):
        raise UnusableItem("The model embeds images, not texts.", index=index)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(item), formats=FORMATS) as image:
                whole = image.convert("RGBA")
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise UnusableItem("The image has too many pixels.", index=index, limit=Image.MAX_IMAGE_PIXELS) from error
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError) as error:
        raise UnusableItem(f"The image cannot be decoded: {error}.", index=index) from error
    return Image.alpha_composite(Image.new("RGBA", whole.size, "white"), whole).convert("RGB")


class PixelModel:
    """Model whose rows are images of `size` by `size` pixels: 3 size^2 values between 0 and 1."""

    kinds: frozenset[ViewKind] = frozenset({"image"})

    def __init__(self, identifier: str, size: int) -> None:
        self._size = size
        self.layers = (("0", 3 * size * size),)
        self.record = ModelRecord(
            model=identifier,
            pooling="built_in",
            preparation={"size": f"{size} x {size}", "resample": "area", "background": "white"},
            dtype="float32",
            libraries=library_versions("numpy", "pillow"),
            device="cpu",
        )

    def encode(self, items: Sequence[ModelInput], layers: Sequence[str]) -> Encoded:
        """See `EmbeddingModel.encode`."""
        indices = find_layer_indices(self.layers, layers)
        rows = np.empty((len(items), self.layers[0][1]), np.float32)
        for index, item in enumerate(items):
            rows[index] = self._shrink(decode_image(item, index))
        return Encoded((rows,) * len(indices))

    def _shrink(self, image: Image.Image) -> EmbeddingRows:
        small = image.resize((self._size, self._size), Image.Resampling.BOX)
        return np.asarray(small, np.float32).ravel() / np.float32(255)
