"""The process that decodes pictures: `python -m consilience.formats.items.image_process CHANNEL PIXELS_LIMIT`."""

import io
import json
import sys
import warnings
from contextlib import suppress
from multiprocessing.connection import Connection

from PIL import Image, JpegImagePlugin, MpoImagePlugin, PngImagePlugin, UnidentifiedImageError, WebPImagePlugin

from consilience.formats.sandbox import PIECE_LIMIT_BYTES, restrict_process

FORMATS = ("PNG", "JPEG", "WEBP")
#: Loaded before files can no longer be opened; an MPO is a JPEG with a second picture behind it, as phones write them.
PLUGINS = (PngImagePlugin, JpegImagePlugin, MpoImagePlugin, WebPImagePlugin)
#: Memory beside what the library took: for any picture, and for each pixel that one may have (a WebP is there four times).
MEMORY_BYTES = 32 * 1024 * 1024
MEMORY_PER_PIXEL = 16
#: Of processor time, for all pictures of an upload; the time of each is limited from outside.
CPU_S = 24 * 3600


def main() -> None:
    """Load the library, give up every right, then decode until nobody sends any more."""
    channel, limit = map(int, sys.argv[1:])
    Image.preinit()
    Image.MAX_IMAGE_PIXELS = None  # the limit is our own, and exact
    warnings.simplefilter("ignore")
    with Connection(channel) as connection:
        restrict_process(MEMORY_BYTES + MEMORY_PER_PIXEL * limit, CPU_S)
        connection.send_bytes(b"ready")
        with suppress(EOFError, ConnectionError):
            while True:
                data = connection.recv_bytes(PIECE_LIMIT_BYTES)
                connection.send_bytes(json.dumps(check_image(data, limit)).encode())


def check_image(data: bytes, limit: int) -> dict[str, object]:
    """Width, height, and what is wrong, if anything. Nothing is decoded before the size is known to be allowed."""
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            size: dict[str, object] = {"width": image.width, "height": image.height}
            if image.width * image.height > limit:
                return size
            if image.format != "MPO" and getattr(image, "is_animated", False):
                return {**size, "fault": "moves; an item is one picture"}
            image.load()
    except UnidentifiedImageError:
        return {"fault": f"is no picture of a kind that is read here: {', '.join(FORMATS)}"}
    except MemoryError:
        return {"fault": "took too much memory to decode"}
    except Exception as error:  # noqa: BLE001 - of Pillow, which raises a dozen unrelated classes on damaged bytes
        return {"fault": f"cannot be decoded ({type(error).__name__}: {str(error)[:100]})"}
    return size


if __name__ == "__main__":
    main()
