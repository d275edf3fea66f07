"""The OpenAPI document: `python -m service.openapi.__main__` prints it."""

import json
import sys

from service.app import create_app
from service.settings import ServiceSettings


def render() -> str:
    """The document as committed in `openapi/openapi.json`; settings have no influence on it."""
    document = create_app(ServiceSettings.model_construct()).openapi()
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    sys.stdout.write(render())
