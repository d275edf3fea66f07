"""Two ways to a score document: in this process, or by a service."""

import re
from pathlib import Path

from consilience.cli.columns import Columns, Labels
from consilience.cli.connection import connect
from consilience.cli.extras import packages_of
from consilience.cli.groups import Service
from consilience.cli.local_work import work_here
from consilience.cli.progress import progress_bar
from consilience.cli.waiting import await_document
from consilience.client.sources import EMBEDDING_ID
from consilience.client.sync import Client
from consilience.contract.embeddings import EmbeddingSet
from consilience.contract.jobs import ScoringOptions
from consilience.contract.scores import ScoreDocument
from consilience.errors import InputError


def obtain_scores(  # noqa: PLR0917 - what the commands have read, in its order
    a: str,
    b: str,
    options: ScoringOptions,
    columns: Columns,
    service: Service,
    device: str,
) -> ScoreDocument:
    """The score document of two files, or of two stored sets where there is a server."""
    for side in (a, b):
        require_source(side, service.server)
    if service.server is None:
        return _score_here(a, b, options, columns, service.timeout, device)
    if device != "auto":
        raise InputError(
            "A service's workers choose their device.", value=device, hint="Leave out --device, or --server."
        )
    return _score_there(a, b, options, columns, service.server, service.timeout)


def require_source(side: str, server: str | None) -> None:
    """Refuse what is neither a file nor, where there is a server, an id."""
    path, stored = Path(side), re.fullmatch(EMBEDDING_ID, side)
    if path.is_file() or (stored and server is not None):
        return
    if stored:
        raise InputError(f"{side} is an id of a stored set.", value=side, hint="Say which service with --server.")
    if path.is_dir():
        raise InputError(f"{side} is a folder.", value=side, hint="Name a file in it.")
    if path.exists():
        raise InputError(
            f"{side} can be read only once.", value=side, hint="Save it to a file: embeddings are read in any order."
        )
    raise InputError(f"There is no file {side}.", value=side, hint="Check the path.")


def _score_here(  # noqa: PLR0917 - as above
    a: str, b: str, options: ScoringOptions, columns: Columns, timeout_s: float | None, device: str
) -> ScoreDocument:
    with packages_of("compute", "Scoring in this process"):
        from consilience.scoring import score  # noqa: PLC0415 -- numpy and faiss, only for those who score here
    with work_here("reading", timeout_s) as report:
        return score(Path(a), Path(b), options, ids=columns.ids, groups=columns.groups, device=device, report=report)


def _score_there(  # noqa: PLR0917 - as above
    a: str, b: str, options: ScoringOptions, columns: Columns, server: str, timeout_s: float | None
) -> ScoreDocument:
    with connect(server) as client, progress_bar("uploading") as report:
        sides = [
            store(client, side, ids, groups)
            for side, ids, groups in zip((a, b), columns.ids, columns.groups, strict=True)
        ]
        alignment = client.align(sides[0], sides[1], options)
        return await_document(client, alignment.id, ScoreDocument, report, timeout_s)


def store(client: Client, side: str, ids: Labels, groups: Labels, model: str | None = None) -> EmbeddingSet | str:
    """A file as a stored set where something is said of it; else the client uploads it itself."""
    if ids is None and groups is None and model is None:
        return side
    if re.fullmatch(EMBEDDING_ID, side):
        raise InputError(
            f"{side} is a stored set, which has its own ids, groups and model.", value=side, hint="Upload it with them."
        )
    return client.upload(side, metadata=None if model is None else {"model": model}, ids=ids, groups=groups)
