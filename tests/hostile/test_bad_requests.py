"""Every bad request is refused with a problem that names the value and what is allowed, and leaves nothing behind."""

from typing import Any

import httpx2
import pytest

from tests.service.servers import Server, assert_problem, npy, rows, upload

INLINE = rows(12).tolist()
UNKNOWN_ID = "emb_" + "0" * 32
JSON = {"content-type": "application/json"}


def request(**members: Any) -> dict[str, Any]:
    return {"a": {"vectors": INLINE}, "b": {"vectors": INLINE}, **members}


def approximate(index: str, **members: Any) -> dict[str, Any]:
    return request(builder={"index": index, **members}, metrics=[{"metric": "mutual_knn", "k": 3}])


BAD_REQUESTS = {
    "unknown metric": (
        request(metrics=["mutual_nn"]), 422, "invalid-request", "/metrics/0", "mutual_nn", "mutual_knn, jaccard_knn",
    ),
    "unknown metric alone": (request(metrics="kca"), 422, "invalid-request", "/metrics", "kca", "mutual_knn, jaccard_knn"),
    "unknown option": (
        request(metrics=[{"metric": "mutual_knn", "kk": 3}]),
        422, "invalid-request", "/metrics/0/kk", "kk", "allowed: metric, k. Did you mean `k`?",
    ),
    "option of another metric": (
        request(metrics=[{"metric": "cka", "k": 3}]), 422, "invalid-request", "/metrics/0/k", "k", "debiased",
    ),
    "unknown field": (request(metric="cka"), 422, "invalid-request", "/metric", "metric", "Did you mean `metrics`?"),
    "unknown field of a side": (
        request(a={"vectors": INLINE, "nam": 1}), 422, "invalid-request", "/a/nam", "nam", "embedding, vectors",
    ),
    "k of n": (
        request(metrics=[{"metric": "mutual_knn", "k": [3, 12]}]),
        422, "invalid-request", "/metrics/0/k", "12", "only 11 neighbours",
    ),
    "k of zero": (request(metrics=[{"metric": "mutual_knn", "k": 0}]), 422, "invalid-request", "/metrics/0/k", "0", "greater"),
    "k of a half": (
        request(metrics=[{"metric": "mutual_knn", "k": 1.5}]), 422, "invalid-request", "/metrics/0/k", "1.5", "integer",
    ),
    "k of true": (
        request(metrics=[{"metric": "mutual_knn", "k": True}]), 422, "invalid-request", "/metrics/0/k", "True", "integer",
    ),
    "a seed in quotes": (request(seed="7"), 422, "invalid-request", "/seed", "7", "integer"),
    "unequal rows": (request(b={"vectors": INLINE[:9]}), 422, "unpaired-sides", "/b", "12 and 9 rows", "same item"),
    "unknown layer": (request(layers={"a": ["7"]}), 422, "unknown-layer", "/layers/a", "7", "no layer"),
    "unknown id": (request(a={"embedding": UNKNOWN_ID}), 404, "not-found", "/a/embedding", UNKNOWN_ID, "no such"),
    "an id of no kind": (request(a={"embedding": "../etc"}), 422, "invalid-request", "/a/embedding", "../etc", "pattern"),
    "both sources": (
        request(a={"embedding": UNKNOWN_ID, "vectors": INLINE}), 422, "invalid-request", "/a", None, "exactly one",
    ),
    "no source": (request(a={}), 422, "invalid-request", "/a", "{}", "exactly one"),
    "a side missing": ({"a": {"vectors": INLINE}}, 422, "invalid-request", "/b", None, "required"),
    "three rows": (request(a={"vectors": INLINE[:3]}), 422, "too-few-rows", "/a", "(3, 8)", "3 rows"),
    "ragged rows": (
        request(a={"vectors": [*INLINE, [1.0]]}), 422, "invalid-shape", "/a/vectors/12", "[1.0]", "not like the first row",
    ),
    "no numbers": (request(a={"vectors": [["x"]] * 5}), 422, "unsupported-dtype", "/a/vectors/0/0", "x", "not a number"),
    "a list": ([], 422, "invalid-request", "", "[]", "object"),
    "an exact index": (
        request(builder={"index": "Flat"}), 422, "invalid-request", "/builder/index", "Flat",
        "is not supported; write, for example, IVF1024,Flat",
    ),
    "an index that is a path": (
        request(builder={"index": "../../etc/passwd"}),
        422, "invalid-request", "/builder/index", "../../etc/passwd", "is not supported; write, for example, IVF1024,Flat",
    ),
    "an index that FAISS would die of": (
        request(builder={"index": "HNSW1"}), 422, "invalid-request", "/builder/index", "HNSW1",
        "is not supported; write, for example, IVF1024,Flat",
    ),
    "more lists than rows": (
        approximate("IVF65536,Flat"), 422, "invalid-request", "/builder/index", "IVF65536,Flat",
        "65536 inverted lists need at least as many rows",
    ),
    "segments that divide nothing": (
        approximate("PQ3x4"), 422, "invalid-request", "/builder/index", "PQ3x4",
        "the 8 columns cannot be divided into 3 segments",
    ),
    "codes of 12 bits": (approximate("PQ4x12"), 422, "invalid-request", "/builder/index", "PQ4x12", "4096 rows"),
    "more axes than columns": (
        approximate("PCA9,SQ8"), 422, "invalid-request", "/builder/index", "PCA9,SQ8", "fewer than 9 principal components",
    ),
    "rows turned into many columns": (
        approximate("RR9999,SQ8"), 422, "invalid-request", "/builder/index", "RR9999,SQ8", "more than twice the 8 columns",
    ),
    "an effort of nothing": (approximate("SQ8", effort=9), 422, "invalid-request", "/builder/effort", "9", "Leave"),
    "few recall queries": (
        approximate("SQ8", recall_queries=3), 422, "invalid-request", "/builder/recall_queries", "3", "1000",
    ),
    "a half width of nothing": (
        request(estimate={"half_width": 1e-300}), 422, "invalid-request", "/estimate/half_width", "1e-300", "greater",
    ),
    "a level of certainty": (
        request(estimate={"half_width": 0.1, "level": 1 - 2**-53}),
        422, "invalid-request", "/estimate/level", "0.9999999999999999", "less",
    ),
    "few rows in a gallery": (
        request(gallery_sizes=[3]), 422, "invalid-request", "/gallery_sizes/0", "3", "greater than or equal to 4",
    ),
    "a gallery of words": (request(gallery_sizes="all"), 422, "invalid-request", "/gallery_sizes", "all", "'auto'"),
    "metrics without end": (request(metrics=["cka"] * 100_000), 422, "invalid-request", None, None, "10000 values"),
    "fields without end": (request(**{f"f{i}": 1 for i in range(20_000)}), 422, "invalid-request", None, None, "10000"),
    "a bottomless request": (request(metrics=eval("[" * 90 + "]" * 90)), 422, "invalid-request", None, None, "32 levels"),  # noqa: S307 - brackets only
    "bottomless metadata": (
        request(metadata={"x": eval("[" * 31 + "]" * 31)}), 422, "invalid-request", None, None, "32 levels",  # noqa: S307 - brackets only
    ),
    "heavy metadata": (request(metadata={"x": "y" * 9000}), 413, "too-large", "/metadata", "9008 bytes", "8192"),
    "NUL in metadata": (request(metadata={"x": ["\0"]}), 422, "invalid-request", "/metadata", None, "NUL"),
    "a seed beyond 64 bits": (request(seed=2**70), 422, "invalid-request", "/seed", None, "integer"),
    "too expensive": (
        request(a={"vectors": [[1, 2]] * 5000}, b={"vectors": [[1, 2]] * 5000}, metrics="mutual_knn"),
        422, "too-expensive", None, None, "operations",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_REQUESTS)
def test_a_bad_request_names_the_value_and_what_is_allowed(server: Server, client: httpx2.Client, name: str) -> None:
    body, status, code, pointer, value, word = BAD_REQUESTS[name]
    before = server.contents()

    answer = client.post("/v1/alignments", json=body)

    document = assert_problem(answer, status, code, pointer=pointer)
    assert value is None or document["value"] == value
    assert word in document["detail"] + document.get("hint", "")
    assert server.contents() == before


NO_JSON = [
    b'{"a": {"vectors": [[NaN]]}}',
    b'{"seed": NaN}',
    b'{"interval": {"level": Infinity}}',
    b'{"interval": {"level": 1e999}}',
    b'{"metadata": {"x": "\\ud800"}}',
    b"\xff\xfe",
    b"",
    b"{",
    b"[" * 5000,
]


@pytest.mark.parametrize("body", NO_JSON)
def test_a_body_that_is_not_json_is_refused_and_not_echoed_as_json(
    server: Server, client: httpx2.Client, body: bytes
) -> None:
    before = server.contents()

    answer = client.post("/v1/alignments", content=body, headers=JSON)

    assert_problem(answer, 422, "invalid-request")
    assert server.contents() == before


def test_all_errors_of_a_request_are_listed_with_pointers(client: httpx2.Client) -> None:
    body = request(metrics=[{"metric": "mutual_knn", "k": 0}], layers=7, seed=-1)

    document = assert_problem(client.post("/v1/alignments", json=body), 422, "invalid-request")

    assert [fault["pointer"] for fault in document["errors"]] == ["/metrics/0/k", "/layers", "/seed"]


def test_a_body_of_another_type_is_refused_with_the_allowed_types(client: httpx2.Client) -> None:
    answer = client.post("/v1/alignments", content=b"a,b", headers={"content-type": "text/csv"})

    assert_problem(
        answer, 415, "unsupported-format", value="text/csv", limit=["application/json", "multipart/form-data"]
    )


BAD_ADDRESSES = [
    ("GET", "/v1/nothing", 404, "not-found"),
    ("GET", "/v1/embeddings/", 404, "not-found"),
    ("GET", "/../../etc/passwd", 404, "not-found"),
    ("PUT", "/v1/jobs", 405, "method-not-allowed"),
    ("GET", "/v1/jobs/job_1", 404, "not-found"),
    ("GET", f"/v1/jobs/job_{'0' * 32}", 404, "not-found"),
    ("GET", f"/v1/jobs/job_{'0' * 32}/events", 404, "not-found"),
    ("POST", f"/v1/jobs/job_{'0' * 32}/cancel", 404, "not-found"),
    ("GET", "/v1/jobs/%00", 404, "not-found"),
    ("GET", f"/v1/embeddings/{UNKNOWN_ID}", 404, "not-found"),
    ("DELETE", f"/v1/embeddings/{UNKNOWN_ID}", 404, "not-found"),
    ("GET", "/v1/jobs?limit=0", 422, "invalid-request"),
    ("GET", "/v1/jobs?limit=NaN", 422, "invalid-request"),
    ("GET", "/v1/jobs?status=lost", 422, "invalid-request"),
    ("GET", "/v1/jobs?cursor=%00", 422, "invalid-request"),
    ("GET", "/v1/embeddings?cursor=bogus", 422, "invalid-request"),
    ("GET", "/v1/embeddings?name=%00", 422, "invalid-request"),
    ("GET", "/v1/embeddings?metadata=7", 422, "invalid-request"),
    ("GET", '/v1/embeddings?metadata={"x":', 422, "invalid-request"),
    ("GET", '/v1/embeddings?metadata={"x":"%00"}', 422, "invalid-request"),
    ("GET", '/v1/embeddings?metadata={"x":"%5Cu0000"}', 422, "invalid-request"),
    ("GET", "/v1/embeddings?metadata=%ff", 422, "invalid-request"),
    ("POST", "/v1/embeddings?name=../x", 422, "invalid-request"),
    ("POST", "/v1/embeddings?metadata=[]", 422, "invalid-request"),
    ("POST", "/v1/alignments?dry_run=perhaps", 422, "invalid-request"),
]


@pytest.mark.parametrize(("method", "path", "status", "code"), BAD_ADDRESSES)
def test_bad_addresses_and_parameters_are_problems_too(
    client: httpx2.Client, method: str, path: str, status: int, code: str
) -> None:
    assert_problem(client.request(method, path), status, code)


def test_a_bad_parameter_is_named_with_its_value(client: httpx2.Client) -> None:
    assert_problem(client.get("/v1/jobs?limit=1000"), 422, "invalid-request", pointer="limit", value="1000")


@pytest.mark.parametrize("key", ["", "x" * 256, "with space", "\x7f"])
def test_a_bad_idempotency_key_is_refused(server: Server, client: httpx2.Client, key: str) -> None:
    before = server.contents()

    answer = client.post("/v1/alignments", json=request(), headers={"idempotency-key": key})

    assert_problem(answer, 422, "invalid-request", pointer="idempotency-key")
    assert server.contents() == before


def test_sides_of_unequal_length_are_refused_as_files_and_stored_sets(server: Server, client: httpx2.Client) -> None:
    a, b = upload(client, rows(20)), upload(client, rows(30))
    before = server.contents()

    stored = client.post("/v1/alignments", json={"a": {"embedding": a["id"]}, "b": {"embedding": b["id"]}})
    files = client.post("/v1/alignments", files={"a": npy(rows(21)), "b": npy(rows(31))})

    assert_problem(stored, 422, "unpaired-sides", value="20 and 30 rows")
    assert_problem(files, 422, "unpaired-sides", value="21 and 31 rows")
    assert server.contents() == before
