"""Switch of tracing by OpenTelemetry's environment variables, which are read without importing it."""

import importlib.util
from collections.abc import Mapping

#: Package of the extra `telemetry` that sends spans.
PACKAGE = "opentelemetry.exporter.otlp.proto.http.trace_exporter"
PROTOCOL = "http/protobuf"


def is_enabled(environ: Mapping[str, str]) -> bool:
    """Return True if the variables name a collector of spans and do not turn tracing off."""
    collectors = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
    exporters = {each.strip() for each in (environ.get("OTEL_TRACES_EXPORTER") or "otlp").split(",")}
    refused = environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
    return any(map(environ.get, collectors)) and "otlp" in exporters and not refused


def find_problem(environ: Mapping[str, str]) -> str | None:
    """Return the reason why tracing is on but no spans can be sent, with a hint, or None."""
    own, common = (environ.get(f"OTEL_EXPORTER_OTLP{part}_PROTOCOL") for part in ("_TRACES", ""))
    protocol = own or common or PROTOCOL
    if protocol != PROTOCOL:
        return f"OTEL_EXPORTER_OTLP_PROTOCOL is {protocol!r}, but only {PROTOCOL} is supported."
    if not _is_installed():
        return "The packages of the extra `telemetry` are not installed. Run: pip install 'consilience[telemetry]'."
    return None


def _is_installed() -> bool:
    try:
        return importlib.util.find_spec(PACKAGE) is not None
    except ModuleNotFoundError:  # not even the package around it
        return False
