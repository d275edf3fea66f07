"""Operations and request examples of the OpenAPI document, with ids of real records in examples."""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import httpx2

from consilience.formats.map_files import dump_map
from consilience.maps.api import fit_map
from service.app import create_app
from service.settings import ServiceSettings
from tests.service.servers import rows

DOCUMENT: dict[str, Any] = create_app(ServiceSettings()).openapi()
#: Any of the service's ids: what it is of, and 128 bits.
ID = re.compile(r"\b([a-z]{2,8}_)[0-9a-f]{32}\b")


class Example(NamedTuple):
    """One request body of the document."""

    name: str
    media_type: str
    value: Any

    @property
    def ids(self) -> set[str]:
        """Prefixes of the ids in the example."""
        return set(ID.findall(self._text))

    def body(self, ids: Mapping[str, str]) -> bytes:
        """Return the body with ids of real records, by prefix."""
        return ID.sub(lambda found: ids.get(found[1], found[0]), self._text).encode()

    def send(self, client: httpx2.Client, path: str, ids: Mapping[str, str], **headers: str) -> httpx2.Response:
        """Send the example with ids of real records."""
        return client.post(path, content=self.body(ids), headers={"content-type": self.media_type, **headers})

    @property
    def _text(self) -> str:
        return self.value if isinstance(self.value, str) else json.dumps(self.value)


class Operation(NamedTuple):
    """One operation of the document."""

    id: str
    method: str
    path: str
    parameters: tuple[str, ...]
    examples: tuple[Example, ...]


def operations() -> Iterator[Operation]:
    """Return all operations, in the order of the document."""
    for path, methods in DOCUMENT["paths"].items():
        for method, operation in methods.items():
            parameters = operation.get("parameters", ())
            names = tuple(parameter["name"] for parameter in parameters if parameter["in"] == "path")
            yield Operation(operation["operationId"], method.upper(), path, names, tuple(_examples(operation)))


def _examples(operation: dict[str, Any]) -> Iterator[Example]:
    for media_type, content in operation.get("requestBody", {}).get("content", {}).items():
        for name, example in content.get("examples", {}).items():
            yield Example(name, media_type, example["value"])


def kind_of(own: str) -> str:
    """Return the prefix of an id."""
    found = ID.fullmatch(own)
    assert found, f"{own!r} is no id of the service"
    return found[1]


def located(answer: httpx2.Response) -> dict[str, str]:
    """Return the path parameters in the header `Location` of a response."""
    place = answer.headers["location"]
    for operation in operations():
        pattern = re.sub(r"\\\{(\w+)\\\}", r"(?P<\1>[^/]+)", re.escape(operation.path))
        if operation.parameters and (found := re.fullmatch(pattern, place)):
            return found.groupdict()
    raise AssertionError(f"no path of the document is like {place!r}")


def makes(operation: Operation) -> bool:
    """Return whether the operation can create a resource or a job."""
    responses = DOCUMENT["paths"][operation.path][operation.method.lower()]["responses"]
    return operation.method == "POST" and not responses.keys().isdisjoint({"201", "202"})


MAKING = [each for each in operations() if makes(each)]
#: What makes something of the caller's own.
CREATING = [each for each in MAKING if not each.parameters]
#: What makes something out of another thing: its address has that one's id.
MAKING_MORE = [each for each in MAKING if each.parameters]


def keep_map(client: httpx2.Client) -> httpx2.Response:
    """Upload a map of eight dimensions, because the map of the example needs a worker."""
    sides = rows(32, 8, seed=1), rows(32, 8, seed=2)
    content = b"".join(dump_map(fit_map(*sides, map="procrustes").file()))
    return client.post("/v1/maps", content=content, headers={"content-type": "application/x-safetensors"})


#: How to make what no example of the document does, by operation.
RECIPES: dict[str, Callable[[httpx2.Client], httpx2.Response]] = {"create_map": keep_map}


def begin_study(client: httpx2.Client) -> str:
    """Create a study of two models and return the path to add models."""
    members = [{"vectors": rows(24, seed=seed).tolist(), "label": str(seed)} for seed in (1, 2)]
    return f"{client.post('/v1/studies', json={'rows': members}).json()['links']['study']}/models"


class More(NamedTuple):
    """Request that creates something from an existing resource."""

    place: Callable[[httpx2.Client], str]
    """Makes such a thing; the address to post to."""
    body: Callable[[str], dict[str, Any]]
    """What to post, which names a stored set of 24 rows by 8."""


#: By operation of MAKING_MORE: a new one without an entry here fails the tests that walk the document.
MORE: dict[str, More] = {
    "extend_study": More(begin_study, lambda own: {"rows": [{"embedding": own}]}),
    "apply_map": More(lambda client: keep_map(client).json()["links"]["apply"], lambda own: {"embedding": own}),
}


def make_everything(client: httpx2.Client) -> dict[str, str]:
    """Create one of each resource by its first example, and return path parameters."""
    made: dict[str, str] = {}
    left = list(CREATING)
    while left:
        ids = {kind_of(own): own for own in made.values()}
        ready = [(each, _recipe(each, ids)) for each in left]
        done = [(each, make(client)) for each, make in ready if make]
        assert done, f"the examples of {[each.id for each in left]} need ids that nothing gives; write a recipe"
        for operation, answer in done:
            assert answer.is_success, f"{operation.id}: {answer.text}"
            made.update(located(answer))
            left.remove(operation)
    return made


def _recipe(operation: Operation, ids: dict[str, str]) -> Callable[[httpx2.Client], httpx2.Response] | None:
    if operation.id in RECIPES:
        return RECIPES[operation.id]
    example = next((each for each in operation.examples if each.ids <= ids.keys()), None)
    return (lambda client: example.send(client, operation.path, ids)) if example else None
