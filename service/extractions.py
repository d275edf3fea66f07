"""From the wish for a set that a model makes to its job. Runs in threads."""

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
    """The wish for a set that a JSON body holds; None where it holds vectors, or is anything else."""
    path, media_type = upload.files["file"]
    if media_type != JSON or path.stat().st_size > SMALL_BODY_BYTES:
        return None
    try:
        body = orjson.loads(path.read_bytes())
    except orjson.JSONDecodeError:
        return None  # whoever reads the vectors says what is wrong
    return body if isinstance(body, dict) and body.keys() & EXTRACTION_FIELDS else None


class KnownItems(NamedTuple):
    """What is known of a dataset without reading an item."""

    n: int
    views: dict[str, ViewKind]
    exact: bool = True
    """Whether there are just so many items, or about so many."""
    held: tuple[str, ...] = ()
    """The stored dataset that a job on them needs."""


class ExtractionHandler:
    """Turns wishes for sets into jobs."""

    def __init__(self, settings: ServiceSettings, stores: Stores) -> None:
        self._settings, self._stores = settings, stores
        self._dispatch = Dispatch(settings, stores)

    def read(self, body: object) -> ExtractionRequest:
        """The request, checked as far as it can be without the model.

        Raises
        ------
        InvalidFields, InvalidRequest
            A field, the pooling, or a view that the model cannot read.
        ModelNotAllowed, NotFound, UnknownView
            The operator's patterns, the dataset, its views.
        """
        request = read_model(ExtractionRequest, body)
        self.check(request)
        self._dispatch.check_webhook(request.webhook)
        return request

    def check(self, wish: Extraction) -> KnownItems:
        """What is known of the items of a wish. Errors as in `read`, each with its field."""
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
                    f"{model} reads {kinds}, and the view {wish.view} holds {kind}.",
                    value=wish.view,
                    limit=sorted(model.kinds),
                )
        return items

    def foresee(self, wish: Extraction) -> "PlannedSide":
        """A side of a comparison that a model is to make, and what making it will cost. Errors as in `read`."""
        items = self.check(wish)
        shape = SideShape(n=items.n, layers=(), unique_ids=items.n)
        return PlannedSide(shape, plan_extraction(wish, items.n), items.exact)

    def plan(self, request: ExtractionRequest) -> Plan:
        """What the job will cost, as far as it can be said; nothing is stored."""
        return plan_extraction(request, self.check(request).n)

    def submit(self, request: ExtractionRequest, key: str | None) -> Job:
        """The job; the known one under a known key. Redis being away is no failure."""
        wish = request.model_dump(mode="json")
        items = self.check(request)
        cost = plan_extraction(request, items.n)
        added = self._dispatch.add("extraction", wish, cost, (), key, queue="extract", datasets=items.held)
        return self._dispatch.deliver(added, "extract")

    def _find(self, name: str) -> KnownItems:
        if is_builtin(name):
            stored = dataset_repository(self._stores, self._settings.data_dir).find_builtin(name)
            if stored is None:  # the worker makes it
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
                f"A dataset is meant by its id: that of the newest with this label is {called[0].id}."
                if called
                else f"Name it by its id (ds_...), or one that is built in: {builtin}."
            )
            raise


class PlannedSide(NamedTuple):
    """A side that is yet to be made: its layers are known once its model is loaded."""

    shape: SideShape
    plan: Plan
    exact: bool


def plan_with_extraction(
    options: ScoringOptions, a: SideShape | PlannedSide, b: SideShape | PlannedSide, limits: CostLimits
) -> Plan:
    """Check a comparison with a side that a model is to make, as far as that can be known, and say what making it costs.

    What scoring costs is known, and held to the same limits, once the sides are there.

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
