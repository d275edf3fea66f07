"""Studies over HTTP: jobs, partial results, tables and added models."""

import csv
import io
import time
from typing import Any

import httpx2
import numpy as np
import psutil
import pytest
from pyarrow import parquet

from consilience.contract.study_results import StudyDocument
from consilience.studies.local import study
from tests.service.servers import Server, assert_problem, running_beside, running_service, running_worker, upload
from tests.workers.harness import wait_for

N = 40
LATENT = np.random.default_rng(0).normal(size=(200, 4))
WAIT = {"prefer": "wait=30"}


def rows_of(number: int, n: int = N) -> np.ndarray:  # type: ignore[type-arg]  # float32
    rng = np.random.default_rng(number)
    return (LATENT[:n] + 0.5 * rng.normal(size=(n, 4))).astype(np.float32)


@pytest.fixture(scope="module")
def sets(busy_client: httpx2.Client) -> list[dict[str, Any]]:
    return [upload(busy_client, rows_of(number), f"model {number}") for number in range(5)]


def members(sets: list[dict[str, Any]], count: int = 3) -> list[dict[str, Any]]:
    return [{"embedding": each["id"], "metadata": {"params": number}} for number, each in enumerate(sets[:count])]


def body(sets: list[dict[str, Any]], count: int = 3, **more: Any) -> dict[str, Any]:
    return {"rows": members(sets, count), "metrics": [{"metric": "mutual_knn", "k": 4}, "cka"], **more}


def test_the_cells_of_a_study_equal_alignments(busy_client: httpx2.Client, sets: list[dict[str, Any]]) -> None:
    answer = busy_client.post("/v1/studies", json=body(sets, trends=[{"by": "params"}]), headers=WAIT)
    job = answer.json()
    assert (answer.status_code, job["kind"], job["status"]) == (200, "study", "succeeded")
    assert job["plan"]["cells"] == 3
    study = busy_client.get(job["links"]["study"]).json()
    assert (study["schema"], study["done"], study["total"]) == ("consilience.study/1", 3, 3)
    assert study == job["result"]
    for matrix, place in zip(study["matrices"], range(2), strict=True):
        cell = matrix["cells"][1]
        names = {each["name"]: each["id"] for each in sets}
        sides = {"a": {"embedding": names[cell["row"]]}, "b": {"embedding": names[cell["column"]]}}
        pair = busy_client.post("/v1/alignments", json={**sides, "metrics": body(sets)["metrics"]}, headers=WAIT).json()
        entry = pair["result"]["scores"][place]
        assert {key: cell[key] for key in ("value", "null", "interval", "calibrated", "layer_a")} == {
            key: entry[key] for key in ("value", "null", "interval", "calibrated", "layer_a")
        }
    assert study["trends"][0]["spearman"]["n"] == 3


def test_inline_vectors_are_stored_as_sets_with_their_labels(busy_client: httpx2.Client) -> None:
    rows = [{"vectors": rows_of(number).tolist(), "label": f"inline {number}"} for number in range(2)]
    columns = [{"vectors": rows_of(7).tolist()}]
    job = busy_client.post(
        "/v1/studies", json={"rows": rows, "columns": columns, "metrics": "cka"}, headers=WAIT
    ).json()
    study = job["result"]
    assert [member["label"] for member in study["rows"]] == ["inline 0", "inline 1"]
    assert [member["label"] for member in study["columns"]] == ["column 0"]
    assert all(member["id"] for member in study["rows"])


def test_an_added_model_creates_a_study_that_computes_only_its_row(
    busy_client: httpx2.Client, sets: list[dict[str, Any]]
) -> None:
    first = busy_client.post("/v1/studies", json=body(sets, seed=11), headers=WAIT).json()
    more = {"rows": [{"embedding": sets[3]["id"], "metadata": {"params": 3}}]}
    answer = busy_client.post(f"/v1/studies/{first['id']}/models", json=more, headers=WAIT)
    job = answer.json()
    assert job["id"] != first["id"]
    assert (job["result"]["total"], job["result"]["cells_reused"]) == (6, 3)
    whole = busy_client.post("/v1/studies", json=body(sets, 4, seed=11), headers=WAIT).json()
    assert whole["result"]["matrices"] == job["result"]["matrices"]
    assert busy_client.post(f"/v1/studies/{first['id']}/models?dry_run=true", json=more).json()["cells"] == 6


#: Where a study's document has what a column of its table has.
COLUMNS = {
    name: name for name in ("row", "column", "status", "value", "calibrated", "p_holm", "p_benjamini_hochberg")
} | {
    "layer_row": "layer_a",
    "layer_column": "layer_b",
    "null_method": "null.method",
    "null_mean": "null.mean",
    "null_threshold": "null.threshold",
    "layer_pairs": "null.layer_pairs",
    "p_value": "null.p_value",
    "low": "interval.low",
    "high": "interval.high",
}


def look_up(cell: dict[str, Any], path: str) -> Any:
    found: Any = cell
    for name in path.split("."):
        found = found[name]
    return found


def test_a_study_can_be_read_as_a_table(busy_client: httpx2.Client, sets: list[dict[str, Any]]) -> None:
    job = busy_client.post("/v1/studies", json=body(sets), headers=WAIT).json()
    link = job["links"]["study"]
    by_query, by_header = (
        busy_client.get(link, params={"format": "csv"}),
        busy_client.get(link, headers={"accept": "text/csv;q=1.0, */*"}),
    )
    assert by_query.content == by_header.content
    assert by_query.headers["content-type"] == "text/csv; charset=utf-8"
    lines = list(csv.DictReader(io.StringIO(by_query.text)))
    cells = [cell for matrix in job["result"]["matrices"] for cell in matrix["cells"]]
    assert [float(line["value"]) for line in lines] == [cell["value"] for cell in cells]
    assert lines[0]["metric"] == "mutual_knn:k=4"
    table = parquet.read_table(io.BytesIO(busy_client.get(link, params={"format": "parquet"}).content))
    assert table.column_names == list(lines[0])
    assert table["value"].to_pylist() == [cell["value"] for cell in cells]
    for column, path in COLUMNS.items():
        assert table[column].to_pylist() == [look_up(cell, path) for cell in cells], column
        assert [line[column] for line in lines] == [str(look_up(cell, path)) for cell in cells], column
    assert busy_client.get(link, headers={"accept": "*/*"}).json() == job["result"]


def test_finished_cells_can_be_read_while_the_study_runs(
    redis_server: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    # Given a service whose worker comes late, and a smaller study that left its cells
    with (
        running_service(tmp_path_factory.mktemp("late"), f"{redis_server}?db=9") as server,
        httpx2.Client(base_url=server.url, timeout=60) as client,
    ):
        sets = [upload(client, rows_of(number), f"model {number}") for number in range(4)]
        with running_worker(server):
            client.post("/v1/studies", json=body(sets), headers=WAIT)

        # When a larger one waits
        job = client.post("/v1/studies", json=body(sets, 4)).json()
        answer = client.get(job["links"]["study"])

        # Then its known cells are there, without what needs all of them
        study = answer.json()
        assert (study["done"], study["total"], answer.headers["retry-after"]) == (3, 6, "1")
        cells = study["matrices"][0]["cells"]
        assert [cell["value"] is not None for cell in cells] == [True] * 3
        assert (cells[0]["p_holm"], study["matrices"][0]["distances"]) == (None, None)
        assert len(client.get(job["links"]["study"], params={"format": "csv"}).text.splitlines()) == 1 + 2 * 3

        # And when it is canceled they stay
        client.post(job["links"]["cancel"])
        assert client.get(job["links"]["study"]).json()["done"] == 3

        # Until one of its sets is deleted, which is said by its name
        assert client.delete(sets[1]["links"]["self"]).status_code == 204
        gone = assert_problem(
            client.get(job["links"]["study"]), 404, "not-found", pointer="/rows/1", value=sets[1]["id"]
        )
        assert "its set 'model 1' was deleted" in gone["detail"]


REFUSED: list[tuple[dict[str, Any], int, str, str]] = [
    ({"rows": 1}, 422, "invalid-request", "A study needs at least two models in `rows`, or models in `columns`."),
    ({"trends": [{"by": "words"}]}, 422, "invalid-request", "3 of 3 models have no number 'words'"),
    ({"factors": [{"by": "depth"}]}, 422, "invalid-request", "have the same level"),
    (
        {"trends": [{"by": "params", "reference": "nobody"}]},
        422,
        "invalid-request",
        "The study has no model with the label 'nobody'",
    ),
    ({"layers": ["9"]}, 422, "unknown-layer", "model 0: Side a has no layer '9'"),
    ({"gallery_sizes": "auto"}, 422, "invalid-request", "gallery-size"),
    ({"metrics": [{"metric": "mutual_knn", "k": 40}]}, 422, "invalid-request", "model 0 and model 1: k = 40"),
]


@pytest.mark.parametrize(("change", "status", "code", "words"), REFUSED)
def test_an_invalid_study_is_refused_at_once(  # noqa: PLR0917 - what a case is made of
    busy_client: httpx2.Client, sets: list[dict[str, Any]], change: dict[str, Any], status: int, code: str, words: str
) -> None:
    asked = {**body(sets), **change}
    if change.get("rows") == 1:
        asked["rows"] = members(sets, 1)
    answer = busy_client.post("/v1/studies", json=asked)
    assert_problem(answer, status, code)
    assert words in answer.text


def test_sets_of_different_items_are_refused_with_their_labels(
    busy_client: httpx2.Client, sets: list[dict[str, Any]]
) -> None:
    short = upload(busy_client, rows_of(9, 30), "short")
    answer = busy_client.post("/v1/studies", json={"rows": [*members(sets, 2), {"embedding": short["id"]}]})
    assert_problem(answer, 422, "unpaired-sides")
    assert "model 0 and short" in answer.text


def test_duplicate_labels_and_missing_sets_are_refused_with_pointers(
    busy_client: httpx2.Client, sets: list[dict[str, Any]]
) -> None:
    twice = busy_client.post("/v1/studies", json={"rows": members(sets, 1) * 2})
    assert_problem(twice, 422, "invalid-request", pointer="/rows")
    missing = {"embedding": "emb_" + "0" * 32}
    gone = busy_client.post("/v1/studies", json={"rows": members(sets, 2), "columns": [missing]})
    assert_problem(gone, 404, "not-found", pointer="/columns/0")


def test_a_constant_number_leaves_a_trend_undefined_and_the_job_succeeds(
    busy_client: httpx2.Client, sets: list[dict[str, Any]]
) -> None:
    same = [{**member, "metadata": {"params": 7}} for member in members(sets)]
    asked = {**body(sets), "rows": same, "trends": [{"by": "params"}]}
    result = busy_client.post("/v1/studies", json=asked, headers=WAIT).json()["result"]
    assert result["trends"][0]["reason"]["code"] == "constant-metadata"


def test_an_alignment_is_not_a_study(busy_client: httpx2.Client, sets: list[dict[str, Any]]) -> None:
    sides = {"a": {"embedding": sets[0]["id"]}, "b": {"embedding": sets[1]["id"]}}
    job = busy_client.post("/v1/alignments", json=sides).json()
    assert_problem(busy_client.get(f"/v1/studies/{job['id']}"), 404, "not-found")
    assert_problem(
        busy_client.post(f"/v1/studies/{job['id']}/models", json={"rows": members(sets, 1)}), 404, "not-found"
    )


def test_columns_cannot_be_added_to_a_square_study(busy_client: httpx2.Client, sets: list[dict[str, Any]]) -> None:
    job = busy_client.post("/v1/studies", json=body(sets), headers=WAIT).json()
    answer = busy_client.post(f"/v1/studies/{job['id']}/models", json={"columns": members(sets, 1)})
    assert_problem(answer, 422, "invalid-request", pointer="/columns")
    assert_problem(busy_client.post(f"/v1/studies/{job['id']}/models", json={}), 422, "invalid-request")


@pytest.mark.parametrize(
    ("more", "code", "pointer"),
    [
        ([{"label": f"m{number}"} for number in range(511)], "invalid-request", "/rows"),
        ([{"label": "c", "metadata": {"x": "\0"}}], "invalid-request", "/rows/0/metadata"),
        ([{"label": "c"}, {"label": "d", "metadata": {"x": "y" * 9000}}], "too-large", "/rows/1/metadata"),
        ([{"label": "c"}, {"label": "d", "embedding": "emb_" + "0" * 32}], "not-found", "/rows/1"),
        ([{"label": "c", "embedding": None, "vectors": [[1.0]]}], "too-few-rows", "/rows/0"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_added_models_are_validated_like_the_first_ones(
    client: httpx2.Client, server: Server, more: list[dict[str, Any]], code: str, pointer: str
) -> None:
    side = {"embedding": upload(client, rows_of(0))["id"]}
    study = client.post("/v1/studies", json={"rows": [{**side, "label": word} for word in "ab"]}).json()
    before = server.contents()

    answer = client.post(f"{study['links']['study']}/models", json={"rows": [{**side, **each} for each in more]})

    status = {"too-large": 413, "not-found": 404}.get(code, 422)
    assert_problem(answer, status, code, pointer=pointer)
    assert server.contents() == before
    client.post(study["links"]["cancel"])


def test_an_idempotency_key_creates_one_study(busy_client: httpx2.Client, sets: list[dict[str, Any]]) -> None:
    headers = {"idempotency-key": f"study-{time.time()}"}
    first, again = (busy_client.post("/v1/studies", json=body(sets), headers=headers).json() for _ in range(2))
    assert first["id"] == again["id"]


def test_more_cells_than_allowed_are_refused_with_their_number(
    redis_server: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("limited")
    with (
        running_service(folder, f"{redis_server}?db=9", study_cells_limit=2) as server,
        httpx2.Client(base_url=server.url, timeout=60) as client,
    ):
        sets = [upload(client, rows_of(number), f"model {number}") for number in range(3)]
        assert_problem(client.post("/v1/studies", json=body(sets)), 413, "too-large", value="3", limit=2)
        assert client.get("/v1/info").json()["limits"]["study_cells_limit"] == 2


def test_killed_processes_do_not_change_the_result_of_a_study(
    redis_server: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    # Given a study that takes a while, and what it must say
    models = {f"model {number}": rows_of(number, 200) for number in range(8)}
    asked = {"metrics": ["mutual_knn"], "null": {"method": "permutation", "permutations": 6000}, "interval": None}
    expected = study(models, **asked)
    folder = tmp_path_factory.mktemp("killed")
    with (
        running_service(folder, f"{redis_server}?db=9", lease_s=2, beat_s=0.2) as server,
        httpx2.Client(base_url=server.url, timeout=60) as client,
        running_beside(server, "workers") as worker,
    ):
        members = [{"embedding": upload(client, rows, name)["id"]} for name, rows in models.items()]
        job = client.post("/v1/studies", json={"rows": members, **asked}).json()

        def done() -> int:
            return int(client.get(job["links"]["study"]).json()["done"])

        # When its process is killed, and then its worker
        wait_for(lambda: done() >= 2, timeout_s=60)
        (process,) = psutil.Process(worker.pid).children()
        process.kill()
        seen = done()
        wait_for(lambda: done() > seen, timeout_s=60)
        worker.kill()
        with running_worker(server):
            finished = client.get(job["links"]["self"], headers={"prefer": "wait=60"}).json()

    # Then every cell is what it is without them, and those that were done were not done again
    assert finished["status"] == "succeeded"
    assert finished["runs"][0]["ended"] == "crashed"
    assert StudyDocument.model_validate(finished["result"]).matrices == expected.matrices
    assert finished["result"]["cells_reused"] >= seen


def test_a_running_study_is_canceled_within_2_s_and_its_cells_stay(busy_client: httpx2.Client) -> None:
    # Given a study that would take minutes, by a worker as it is set by default
    asked = {"metrics": ["mutual_knn"], "null": {"method": "permutation", "permutations": 6000}, "interval": None}
    models = [upload(busy_client, rows_of(number, 200), f"model {number}")["id"] for number in range(24)]
    everyone = [{"embedding": each} for each in models]
    job = busy_client.post("/v1/studies", json={"rows": everyone, **asked}).json()

    def look() -> dict[str, Any]:
        return dict(busy_client.get(job["links"]["study"]).json())

    wait_for(lambda: look()["done"] >= 2, timeout_s=60)

    # When it is canceled while it runs
    assert busy_client.get(job["links"]["self"]).json()["status"] == "running"
    busy_client.post(job["links"]["cancel"])
    wait_for(lambda: busy_client.get(job["links"]["self"]).json()["status"] == "canceled", timeout_s=2)

    # Then what it had done can be read, and is no result
    ended, kept = busy_client.get(job["links"]["self"]).json(), look()
    assert (ended["result"], ended["error"], [run["ended"] for run in ended["runs"]]) == (None, None, ["canceled"])
    assert 2 <= kept["done"] < kept["total"] == 276
    assert sum(cell["value"] is not None for cell in kept["matrices"][0]["cells"]) == kept["done"]

    # And the worker takes the next one, which finds the cells, and adds none to those that were canceled
    first = busy_client.post("/v1/studies", json={"rows": everyone[:2], **asked}, headers=WAIT).json()
    assert (first["status"], first["result"]["cells_reused"]) == ("succeeded", 1)
    assert look()["done"] == kept["done"]
