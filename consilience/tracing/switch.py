"""Whether spans are wanted: OpenTelemetry's own variables decide, and nothing of it is imported to read them."""

import importlib.util
from collections.abc import Mapping

#: The package of the extra `telemetry` that sends spans.
PACKAGE = "opentelemetry.exporter.otlp.proto.http.trace_exporter"
PROTOCOL = "http/protobuf"


def is_wanted(environ: Mapping[str, str]) -> bool:
    """Whether the variables name a collector of spans, and none of them says no."""
    collectors = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
    exporters = {each.strip() for each in (environ.get("OTEL_TRACES_EXPORTER") or "otlp").split(",")}
    refused = environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
    return any(map(environ.get, collectors)) and "otlp" in exporters and not refused


def find_obstacle(environ: Mapping[str, str]) -> str | None:
    """Why no spans can be sent although they are wanted, and what to do; None where they can."""
    own, common = (environ.get(f"OTEL_EXPORTER_OTLP{part}_PROTOCOL") for part in ("_TRACES", ""))
    protocol = own or common or PROTOCOL
    if protocol != PROTOCOL:
        return f"OTEL_EXPORTER_OTLP_PROTOCOL={protocol!r}: spans are sent by {PROTOCOL} alone."
    if not _is_installed():
        return "The packages of the extra `telemetry` are not installed: pip install 'consilience[telemetry]'."
    return None


def _is_installed() -> bool:
    try:
        return importlib.util.find_spec(PACKAGE) is not None
    except ModuleNotFoundError:  # not even the package around it
        return False
