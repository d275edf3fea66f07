"""Hooks of Schemathesis: media types, and valid requests for links."""

import schemathesis
from schemathesis import Case, GenerationMode, HookContext
from schemathesis.generation.meta import TestPhase

from tests.service.openapi_document import operations

JSON = "application/json"
#: By method and path: the first example in JSON that names nothing stored.
EXAMPLES = {
    (each.method, each.path): one.value
    for each in operations()
    for one in reversed(each.examples)
    if one.media_type == JSON and not one.ids
}

# JSON lines are text to it: that each line is an object is for the service to see.
schemathesis.serializer.alias(["application/jsonl", "application/x-ndjson"], "text/plain")


@schemathesis.hook
def map_case(_context: HookContext, case: Case) -> Case:
    """Replace random cursors and bodies by valid ones if links are tested, because refusals have no links."""
    if case.meta is None or case.meta.phase.name != TestPhase.STATEFUL:
        return case
    if case.meta.generation.mode != GenerationMode.POSITIVE:
        return case
    if case.method == "GET":
        case.query = {name: value for name, value in case.query.items() if name == "limit"}
    elif example := EXAMPLES.get((case.method, case.path)):
        case.media_type, case.body, case.query, case.headers = JSON, example, {}, {}
    return case
