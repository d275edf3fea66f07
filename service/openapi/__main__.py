"""Entry point of `python -m service.openapi`, which prints the OpenAPI document."""

import json
import sys

from service.app import create_app
from service.settings import ServiceSettings


def render() -> str:
    """Return the OpenAPI document in the form of `openapi/openapi.json`. It does not depend on settings."""
    document = create_app(ServiceSettings.model_construct()).openapi()
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    sys.stdout.write(render())
