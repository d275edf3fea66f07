"""Program that decodes images: `python -m consilience.formats.items.image_process CHANNEL PIXELS_LIMIT`."""

import io
import json
import sys
import warnings
from contextlib import suppress
from multiprocessing.connection import Connection

from PIL import Image, JpegImagePlugin, MpoImagePlugin, PngImagePlugin, UnidentifiedImageError, WebPImagePlugin

from consilience.formats.sandbox import PIECE_LIMIT_BYTES, restrict_process

FORMATS = ("PNG", "JPEG", "WEBP")
#: Loaded before the process may no longer open files. An MPO is a JPEG with a second image after it, as phones write it.
PLUGINS = (PngImagePlugin, JpegImagePlugin, MpoImagePlugin, WebPImagePlugin)
#: Memory allowed beyond that of the library: for any image, and for each allowed pixel (a WebP needs four copies).
MEMORY_BYTES = 32 * 1024 * 1024
MEMORY_PER_PIXEL = 16
#: Processor time for all images of an upload; the parent process limits the time of each image.
CPU_S = 24 * 3600


def main() -> None:
    """Load Pillow, drop all privileges, then check images until the channel closes."""
    channel, limit = map(int, sys.argv[1:])
    Image.preinit()
    Image.MAX_IMAGE_PIXELS = None  # `check_image` applies its own exact limit
    warnings.simplefilter("ignore")
    with Connection(channel) as connection:
        restrict_process(MEMORY_BYTES + MEMORY_PER_PIXEL * limit, CPU_S)
        connection.send_bytes(b"ready")
        with suppress(EOFError, ConnectionError):
            while True:
                data = connection.recv_bytes(PIECE_LIMIT_BYTES)
                connection.send_bytes(json.dumps(check_image(data, limit)).encode())


def check_image(data: bytes, limit: int) -> dict[str, object]:
    """Return width, height and the error, if any. An image is decoded only if its size is allowed."""
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            size: dict[str, object] = {"width": image.width, "height": image.height}
            if image.width * image.height > limit:
                return size
            if image.format != "MPO" and getattr(image, "is_animated", False):
                return {**size, "error": "is an animation; an item must be a single image"}
            image.load()
    except UnidentifiedImageError:
        return {"error": f"is not an image in a supported format ({', '.join(FORMATS)})"}
    except MemoryError:
        return {"error": "needs too much memory to decode"}
    except Exception as error:  # noqa: BLE001 - of Pillow, which raises a dozen unrelated classes on damaged bytes
        return {"error": f"cannot be decoded ({type(error).__name__}: {str(error)[:100]})"}
    return size


if __name__ == "__main__":
    main()
