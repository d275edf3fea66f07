from typing import Any

import httpx2
import numpy as np
import pytest

from tests.service.servers import Server, assert_problem, npy, rows, running_service, upload

UNKNOWN = "emb_" + "0" * 32
#: Members and a model that share a part of their directions, each a different one.
COMMON = rows(40, 8, seed=9)
MEMBERS = [COMMON + 0.6 * rows(40, 8, seed=seed) for seed in (1, 2, 3)]
MODEL = COMMON + 0.3 * rows(40, 8, seed=4)


@pytest.fixture(scope="module")
def members(client: httpx2.Client) -> list[str]:
    return [upload(client, each, f"member {number}")["id"] for number, each in enumerate(MEMBERS)]


def make(client: httpx2.Client, embeddings: list[str], name: str = "released", **headers: str) -> httpx2.Response:
    return client.post("/v1/references", json={"name": name, "embeddings": embeddings}, headers=headers)


def test_a_reference_set_is_created_read_listed_and_deleted(client: httpx2.Client, members: list[str]) -> None:
    answer = make(client, members, "made")
    made = answer.json()

    assert (answer.status_code, answer.headers["location"]) == (201, f"/v1/references/{made['id']}")
    assert [each["embedding"] for each in made["members"]] == members
    assert client.get(made["links"]["self"]).json() == made
    assert client.get("/v1/references", params={"name": "made"}).json()["data"] == [made]
    again = make(client, members, "made")
    assert (again.status_code, again.json()) == (200, made)
    assert client.delete(made["links"]["self"]).status_code == 204
    assert_problem(client.get(made["links"]["self"]), 404, "not-found")


def test_a_member_of_a_reference_set_cannot_be_deleted(client: httpx2.Client) -> None:
    member = upload(client, rows(40, 3, seed=11), "pinned")["id"]
    made = make(client, [member], "pins").json()

    problem = assert_problem(client.delete(f"/v1/embeddings/{member}"), 409, "in-use")

    assert "pins" in problem["detail"]
    assert made["id"] in problem["detail"]
    client.delete(made["links"]["self"])
    assert client.delete(f"/v1/embeddings/{member}").status_code == 204


def test_an_idempotency_key_belongs_to_one_request(client: httpx2.Client, members: list[str]) -> None:
    key = {"idempotency-key": "reference-1"}
    first, again = (make(client, members, "keyed", **key) for _ in "12")

    assert (first.status_code, again.status_code) == (201, 200)
    assert_problem(make(client, members[:2], "keyed", **key), 422, "idempotency-key-reused", value="reference-1")


@pytest.mark.parametrize(
    ("embeddings", "status", "code", "pointer"),
    [
        ([], 422, "invalid-request", "/embeddings"),
        ([UNKNOWN], 404, "not-found", "/embeddings/0"),
        (["no id"], 422, "invalid-request", "/embeddings/0"),
        ([UNKNOWN] * 129, 422, "invalid-request", "/embeddings"),
        ("emb", 422, "invalid-request", "/embeddings"),
    ],
    ids=["empty", "unknown", "no id", "too many", "no list"],
)
def test_invalid_members_are_refused(
    client: httpx2.Client, embeddings: Any, status: int, code: str, pointer: str | None
) -> None:
    assert_problem(make(client, embeddings), status, code, pointer=pointer)


def test_members_of_other_items_are_refused(client: httpx2.Client, members: list[str]) -> None:
    longer = upload(client, rows(41, 8))["id"]
    assert_problem(make(client, [*members, longer]), 422, "unpaired-sides", pointer="/embeddings/3", value="41")
    assert_problem(make(client, [members[0], *members]), 422, "invalid-request", pointer="/embeddings/1")

    named = [
        client.post("/v1/embeddings", json={"vectors": MEMBERS[seed].tolist(), "ids": [f"{seed}-{i}" for i in order]})
        for seed, order in enumerate([range(40), range(40)])
    ]
    problem = assert_problem(make(client, [each.json()["id"] for each in named]), 422, "unpaired-sides")
    assert "different ids" in problem["detail"]


def test_scores_against_members_equal_alignments(busy_client: httpx2.Client) -> None:
    sets = [upload(busy_client, each, f"member {number}")["id"] for number, each in enumerate(MEMBERS)]
    model = upload(busy_client, MODEL, "model")["id"]
    reference = make(busy_client, sets).json()
    options = {"metrics": [{"metric": "mutual_knn", "k": [3, 5]}, "cka", "gulp"]}
    wait = {"prefer": "wait=30"}

    body = {"a": {"embedding": model}, "b": {"reference": reference["id"]}, **options}
    answer = busy_client.post("/v1/alignments", json=body, headers=wait)
    job = answer.json()

    assert (answer.status_code, job["kind"], job["status"]) == (200, "reference", "succeeded"), job
    assert job["request"]["b"] == {"reference": reference["id"]}
    result = job["result"]
    assert result["reference"] == {name: reference[name] for name in ("id", "name", "digest")}
    for member, entry in zip(sets, result["members"], strict=True):
        pair_body = {"a": {"embedding": model}, "b": {"embedding": member}, **options}
        pair = busy_client.post("/v1/alignments", json=pair_body, headers=wait).json()["result"]
        for same in ("b", "pairing", "preparation", "warnings"):
            assert entry[same] == pair[same]
        assert [_without_cache(each) for each in entry["scores"]] == [_without_cache(each) for each in pair["scores"]]
    next_model = {"a": {"vectors": (MODEL + 1).tolist()}, "metadata": {"step": 2}, "null": "permutation"}
    again = busy_client.post("/v1/alignments", json=body | next_model, headers=wait).json()["result"]
    assert (result["pairs_reused"], again["pairs_reused"], again["pairs"]) == (0, 3, 3)
    assert [each["members"] for each in again["ranks"]] == [each["members"] for each in result["ranks"]]


def _without_cache(score: dict[str, Any]) -> dict[str, Any]:
    """Return a score without its cache use."""
    return {**score, "neighbours": {**(score["neighbours"] or {}), "cache": None}}


def test_a_form_can_use_a_reference_set_as_b(busy_client: httpx2.Client) -> None:
    sets = [upload(busy_client, each)["id"] for each in MEMBERS]
    request = f'{{"b": {{"reference": "{make(busy_client, sets).json()["id"]}"}}, "metrics": "mutual_knn"}}'
    files = {"a": npy(MODEL), "request": (None, request, "application/json")}

    job = busy_client.post("/v1/alignments", files=files, headers={"prefer": "wait=30"}).json()

    standing = job["result"]["ranks"][0]
    assert (standing["rank"], standing["n_ranked"], standing["n_scores"]) == (1, 4, 3)
    assert standing["value"] == pytest.approx(
        np.mean([each["scores"][0]["value"] for each in job["result"]["members"]])
    )
    other = {"a": npy(MODEL), "request": (None, f'{{"b": {{"embedding": "{sets[0]}"}}}}', "application/json")}
    assert busy_client.post("/v1/alignments", files=other, headers={"prefer": "wait=30"}).json()["kind"] == "alignment"


def test_the_plan_includes_the_pairs_of_members(client: httpx2.Client, members: list[str]) -> None:
    body = {"a": {"embedding": members[0]}, "b": {"reference": make(client, members).json()["id"]}}

    planned = client.post("/v1/alignments?dry_run=true", json=body)
    job = client.post("/v1/alignments", json=body, headers={"idempotency-key": "planned"})
    again = client.post("/v1/alignments", json=body, headers={"idempotency-key": "planned"})

    assert (planned.status_code, planned.json()["cells"], planned.json()["n"]) == (200, 3 + 3, 40)
    assert (job.status_code, job.json()["plan"]["cells"]) == (202, 6)
    assert again.json()["id"] == job.json()["id"]
    held = f"/v1/references/{body['b']['reference']}"
    assert_problem(client.delete(held), 409, "in-use")
    client.post(job.json()["links"]["cancel"])


def test_a_mismatched_model_is_refused_with_the_member(client: httpx2.Client, members: list[str]) -> None:
    reference = {"reference": make(client, members).json()["id"]}
    short, whole = {"vectors": MODEL[:9].tolist()}, {"vectors": MODEL.tolist()}

    problem = assert_problem(client.post("/v1/alignments", json={"a": short, "b": reference}), 422, "unpaired-sides")
    assert problem["detail"].startswith("Against member 0: ")
    unknown = {"a": whole, "b": reference, "layers": {"b": ["7"]}}
    assert_problem(client.post("/v1/alignments", json=unknown), 422, "unknown-layer")
    by_id = {"a": whole, "b": reference, "pairing": "id"}
    assert_problem(client.post("/v1/alignments", json=by_id), 422, "invalid-request")


def test_a_reference_set_is_allowed_only_as_b_without_other_sources(client: httpx2.Client, members: list[str]) -> None:
    whole, unknown = {"vectors": MODEL.tolist()}, {"reference": "ref_" + "0" * 32}

    assert_problem(client.post("/v1/alignments", json={"a": unknown, "b": whole}), 422, "invalid-request")
    both = {**unknown, "embedding": members[0]}
    assert_problem(client.post("/v1/alignments", json={"a": whole, "b": both}), 422, "invalid-request", pointer="/b")
    missing = client.post("/v1/alignments", json={"a": whole, "b": unknown})
    assert_problem(missing, 404, "not-found", pointer="/b/reference")


@pytest.mark.parametrize(
    ("request_part", "files", "what"),
    [
        ("{}", {}, "no part `b`"),
        ('{"b": {"embedding": "emb_00000000000000000000000000000000"}}', {"b": npy(MODEL)}, "The form has `b` twice"),
        ('{"b": {"vectors": [[1.0]]}}', {}, "in a form, vectors must be a file"),
    ],
    ids=["none", "two", "vectors"],
)
def test_a_form_must_have_b_exactly_once(
    client: httpx2.Client, request_part: str, files: dict[str, bytes], what: str
) -> None:
    parts = {"a": npy(MODEL), **files, "request": (None, request_part, "application/json")}
    assert what in assert_problem(client.post("/v1/alignments", files=parts), 422, "invalid-request")["detail"]


def test_a_dry_run_stores_nothing_and_too_large_requests_are_refused(redis_server: str, tmp_path: Any) -> None:
    with (
        running_service(tmp_path, f"{redis_server}?db=6", job_timeout_s=0.5) as server,
        httpx2.Client(base_url=server.url) as client,
    ):
        sets = [upload(client, rows(40, 8, seed=seed))["id"] for seed in range(12)]
        reference = {"reference": make(client, sets).json()["id"]}
        body = {
            "a": {"vectors": MODEL.tolist()},
            "b": reference,
            "null": {"method": "permutation", "permutations": 20_000},
        }
        before = contents(server)

        problem = assert_problem(client.post("/v1/alignments", json=body), 422, "too-expensive")

        assert float(problem["value"]) > 0.5
        assert contents(server) == before


def contents(server: Server) -> dict[str, Any]:
    return server.contents()
