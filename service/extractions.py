"""Creation of extraction jobs, which compute embedding sets with models. Runs in threads."""

from typing import Any, NamedTuple

import orjson

from consilience.contract.alignments import ScoringOptions
from consilience.contract.datasets import Dataset, ViewKind
from consilience.contract.extraction import EXTRACTION_FIELDS, Extraction, ExtractionRequest
from consilience.contract.jobs import Job, Plan
from consilience.contract.models import check_model, check_pooling
from consilience.contract.pointers import at_pointer
from consilience.datasets.builtin import OPTIONS, is_builtin, parse_builtin
from consilience.errors import InvalidRequest, NotFound, UnknownView
from consilience.planning.alignments import (
    CostLimits,
    SideShape,
    check_neighbours,
    choose_budget,
    count_pairs,
    plan_extraction,
)
from service.dispatch import Dispatch
from service.ingest import dataset_repository
from service.multipart import JSON, Upload
from service.request_body import read_model
from service.responses import SMALL_BODY_BYTES
from service.settings import ServiceSettings
from service.stores import Stores


def find_extraction(upload: Upload) -> dict[str, Any] | None:
    """Return the extraction request in a JSON body, or None if the body contains anything else."""
    path, media_type = upload.files["file"]
    if media_type != JSON or path.stat().st_size > SMALL_BODY_BYTES:
        return None
    try:
        body = orjson.loads(path.read_bytes())
    except orjson.JSONDecodeError:
        return None  # the reader of vectors reports the error
    return body if isinstance(body, dict) and body.keys() & EXTRACTION_FIELDS else None


class KnownItems(NamedTuple):
    """Properties of a dataset that are known without reading its items."""

    n: int
    views: dict[str, ViewKind]
    exact: bool = True
    """Whether `n` is exact and not an estimate."""
    held: tuple[str, ...] = ()
    """Id of the stored dataset that a job needs."""


class ExtractionHandler:
    """Reads extraction requests, plans them and creates their jobs."""

    def __init__(self, settings: ServiceSettings, stores: Stores) -> None:
        self._settings, self._stores = settings, stores
        self._dispatch = Dispatch(settings, stores)

    def read(self, body: object) -> ExtractionRequest:
        """Read a request and validate all that can be validated without the model.

        Raises
        ------
        InvalidFields, InvalidRequest
            A field or the pooling is not valid, or the model cannot read the view.
        ModelNotAllowed, NotFound, UnknownView
            The operator does not allow the model, or the dataset or its view does not exist.
        """
        request = read_model(ExtractionRequest, body)
        self.check(request)
        self._dispatch.check_webhook(request.webhook)
        return request

    def check(self, wish: Extraction) -> KnownItems:
        """Validate an extraction and return the known properties of its items. Errors as in `read`, with pointers."""
        with at_pointer("/model"):
            model = check_model(wish.model, self._settings.models)
        with at_pointer("/pooling"):
            check_pooling(model, wish.pooling)
        with at_pointer("/dataset"):
            items = self._find(wish.dataset)
        with at_pointer("/view"):
            if wish.view not in items.views:
                names = list(items.views)
                raise UnknownView(
                    f"The dataset {wish.dataset} has no view {wish.view!r}; it has: {', '.join(names)}.",
                    value=wish.view,
                    limit=names,
                )
            kind = items.views[wish.view]
            if model.kinds is not None and kind not in model.kinds:
                kinds = " or ".join(sorted(model.kinds))
                raise InvalidRequest(
                    f"The model {model} reads {kinds}, but the view {wish.view} contains {kind}.",
                    value=wish.view,
                    limit=sorted(model.kinds),
                )
        return items

    def foresee(self, wish: Extraction) -> "PlannedSide":
        """Return the shape and the cost of a side that a model will compute. Errors as in `read`."""
        items = self.check(wish)
        shape = SideShape(n=items.n, layers=(), unique_ids=items.n)
        return PlannedSide(shape, plan_extraction(wish, items.n), items.exact)

    def plan(self, request: ExtractionRequest) -> Plan:
        """Return the cost estimate of the job. Nothing is stored."""
        return plan_extraction(request, self.check(request).n)

    def submit(self, request: ExtractionRequest, key: str | None) -> Job:
        """Create the job, or return the existing job of a known idempotency key."""
        wish = request.model_dump(mode="json")
        items = self.check(request)
        cost = plan_extraction(request, items.n)
        added = self._dispatch.add("extraction", wish, cost, (), key, queue="extract", datasets=items.held)
        return self._dispatch.deliver(added, "extract")

    def _find(self, name: str) -> KnownItems:
        if is_builtin(name):
            stored = dataset_repository(self._stores, self._settings.data_dir).find_builtin(name)
            if stored is None:  # the worker generates it
                builtin = parse_builtin(name)
                return KnownItems(builtin.n, dict(builtin.views), exact=builtin.is_exact)
        else:
            stored = self._get(name)
        return KnownItems(stored.n, {view.name: view.kind for view in stored.views}, held=(stored.id,))

    def _get(self, name: str) -> Dataset:
        try:
            return self._stores.datasets.get(name)
        except NotFound as error:
            called = self._stores.datasets.page(None, 1, name=name).data
            builtin = ", ".join(str(parse_builtin(each)) for each in OPTIONS)
            error.hint = (
                f"Use the id of the dataset: the newest dataset with this name has the id {called[0].id}."
                if called
                else f"Use the id of a stored dataset (ds_...), or a built-in dataset: {builtin}."
            )
            raise


class PlannedSide(NamedTuple):
    """Side that a model will compute. Its layers are known when the model is loaded."""

    shape: SideShape
    plan: Plan
    exact: bool


def plan_with_extraction(
    options: ScoringOptions, a: SideShape | PlannedSide, b: SideShape | PlannedSide, limits: CostLimits
) -> Plan:
    """Validate an alignment with sides that models will compute, and return the cost of computing them.

    The cost of scoring is estimated, with the same limits, when the sides exist.

    Raises
    ------
    UnpairedSides, TooFewRows, InvalidRequest
        As `consilience.planning.alignments.plan`.
    """
    made = [side for side in (a, b) if isinstance(side, PlannedSide)]
    shape_a, shape_b = (side.shape if isinstance(side, PlannedSide) else side for side in (a, b))
    n = min(shape_a.n, shape_b.n)
    if all(side.exact for side in made):
        n = count_pairs(options.pairing, shape_a, shape_b)
        check_neighbours(options, n - 1)
    return Plan(
        n=n,
        flops=0.0,
        bytes=max(side.plan.bytes for side in made),
        memory_budget_bytes=choose_budget(options.memory_budget_bytes, limits.bytes),
        seconds=sum(side.plan.seconds for side in made),
    )
