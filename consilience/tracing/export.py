"""Where spans go: OpenTelemetry's exporter, as its variables say. Imported only where spans are wanted."""

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor

from consilience import __version__

#: Holds what users said of their data, which leaves a service by no other way.
QUERY = "url.query"
HIDDEN = "REDACTED"


class WithoutQuery(SpanProcessor):
    """Hides the query of a request's URL: names and metadata of sets are in it."""

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Overwrite the query."""
        del parent_context
        if span.attributes and QUERY in span.attributes:
            span.set_attribute(QUERY, HIDDEN)

    def on_end(self, span: ReadableSpan) -> None:
        """Nothing is left to do."""


def describe(component: str) -> Resource:
    """The process, as spans name it: `consilience-<component>`, unless OTEL_SERVICE_NAME or OTEL_RESOURCE_ATTRIBUTES do."""
    own = {"service.name": f"consilience-{component}", "service.version": __version__}
    return Resource.create(own).merge(OTELResourceDetector().detect())


def open_provider(resource: Resource, *, wait_limit_s: float | None = None) -> TracerProvider:
    """What spans of a process are made by.

    Parameters
    ----------
    resource : Resource
        The process.
    wait_limit_s : float, optional
        Send each span when it ends, in this thread, and give it up after so long: for a process that is about to end, or
        that forks. By default a thread of its own sends them in batches, with the limits of OTEL_BSP_....
    """
    provider = TracerProvider(resource=resource)
    exporter = OTLPSpanExporter(timeout=wait_limit_s)
    provider.add_span_processor(WithoutQuery())
    provider.add_span_processor(SimpleSpanProcessor(exporter) if wait_limit_s else BatchSpanProcessor(exporter))
    return provider
