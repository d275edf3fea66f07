"""Maps: from requests to jobs that fit and translate, from files to stored maps, and a few vectors at once. Runs in threads."""

from dataclasses import dataclass, field
from pathlib import Path

from consilience.contract.embeddings import EmbeddingSet
from consilience.contract.jobs import Job, Plan
from consilience.contract.maps import MapDocument, MapRequest, StoredMap, TranslatedVectors, TranslationRequest
from consilience.contract.places import placed
from consilience.errors import InvalidRequest, TooLarge
from consilience.formats.map_files import read_map
from consilience.formats.vectors import parse_rows
from consilience.planning.alignments import SideShape
from consilience.planning.maps import plan_map, plan_translation
from consilience.stores.folder_lock import an_upload
from consilience.translation import translate_few
from service.dispatch import Dispatch
from service.ingest import remove_record
from service.metadata import check_metadata, check_size
from service.reading import read_model
from service.settings import Settings
from service.stores import Stores

#: Numbers of vectors that are answered at once, before and after; and what their translation may take.
VALUES_MAX = 1 << 20
FLOPS_MAX = 1e10
#: Of a map that was fitted elsewhere; those that are fitted here have less than half.
CARD_LIMIT_BYTES = 65_536


@dataclass(frozen=True)
class Maps:
    """What routes do with maps."""

    settings: Settings
    stores: Stores
    dispatch: Dispatch = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "dispatch", Dispatch(self.settings, self.stores))

    def fit(self, body: object, key: str | None, *, dry_run: bool) -> Job | Plan:
        """A job that fits a map of two stored sets; or what it would cost."""
        request = read_model(MapRequest, body)
        self.dispatch.check_webhook(request.webhook)
        a, b = (self._find(f"/{name}/embedding", getattr(request, name).embedding) for name in ("a", "b"))
        plan = plan_map(request, SideShape.of(a), SideShape.of(b), self.dispatch.limits)
        if dry_run:
            return plan
        added = self.dispatch.add("map", request.model_dump(mode="json"), plan, (a.id, b.id), key)
        return self.dispatch.deliver(added)

    def keep(self, path: Path, name: str, key: str | None) -> tuple[StoredMap, bool]:
        """Keep a map's file; False where it was there already."""
        file = read_map(path)
        check_card(file.card)
        with an_upload(self.settings.data_dir):
            return self.stores.maps.add(name, file, idempotency_key=key)

    def remove(self, map_id: str) -> None:
        """Forget a map."""
        remove_record(self.stores, self.settings.data_dir, self.stores.maps.delete, map_id)

    def apply(self, map_id: str, body: object, key: str | None, *, dry_run: bool) -> Job | Plan | TranslatedVectors:
        """The translations of a few vectors; or a job that makes a new set of a stored one's, or what it would cost."""
        vectors = _take_vectors(body)
        request = read_model(TranslationRequest, body)
        if vectors is not None:
            return self._answer(map_id, request, vectors)
        self.dispatch.check_webhook(request.webhook)
        stored = self.stores.maps.get(map_id)
        _check_model(stored, request.model)
        source = self._find("/embedding", request.embedding or "")
        dims = stored.card.a.dim, stored.card.b.dim
        plan = plan_translation(SideShape.of(source), request.layer, dims, self.dispatch.limits)
        if dry_run:
            return plan
        body = {"map": map_id, **request.model_dump(mode="json", exclude={"vectors"})}
        return self.dispatch.deliver(self.dispatch.add("translation", body, plan, [source.id], key, maps=[map_id]))

    def _find(self, pointer: str, embedding_id: str) -> EmbeddingSet:
        with placed(pointer):
            return self.stores.embeddings.get(embedding_id)

    def _answer(self, map_id: str, request: TranslationRequest, vectors: object) -> TranslatedVectors:
        stored, file = self.stores.maps.open(map_id)
        _check_model(stored, request.model)
        rows = parse_rows(vectors, "/vectors")
        widest = max(stored.card.a.dim, stored.card.b.dim)
        work = 2.0 * sum(weights.size for weights, _ in file.steps)
        most = int(min(VALUES_MAX // widest, FLOPS_MAX // work))
        if len(rows) > most:
            raise TooLarge(
                f"{len(rows)} vectors are too many to be answered at once.",
                value=len(rows),
                limit=most,
                hint="Send fewer, or upload them as a set and name it as `embedding`.",
                pointer="/vectors",
            )
        with placed("/vectors"):
            return TranslatedVectors(map=map_id, vectors=translate_few(file, rows).tolist())


def check_card(card: MapDocument) -> None:
    """Refuse a card with more in it than a fit could say: it is stored, listed, and its models become metadata of sets.

    Raises
    ------
    InvalidRequest, TooLarge
    """
    check_metadata(card.metadata, "/card/metadata")
    for side in ("a", "b"):
        check_metadata(getattr(card, side).model_dump(mode="json"), f"/card/{side}")
    check_size("The map's card", card.model_dump_json(by_alias=True).encode(), CARD_LIMIT_BYTES, "/card")


def _take_vectors(body: object) -> object:
    """Take the vectors out of a request, leaving none in their place: the format's own checks are stricter and leaner."""
    if not isinstance(body, dict) or not isinstance(body.get("vectors"), list):
        return None
    vectors, body["vectors"] = body["vectors"], []
    return vectors


def _check_model(stored: StoredMap, model: str | None) -> None:
    known = stored.card.a.model
    if model is not None and known is not None and model != known:
        raise InvalidRequest(
            f"The map takes vectors of {known}.",
            value=model,
            limit=known,
            hint="Fit a map from this model, or take the one that was fitted from it.",
            pointer="/model",
        )
