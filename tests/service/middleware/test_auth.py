"""Authentication, scopes, quotas and rate limits."""

import re
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from consilience.contract.keys import Scope
from tests.service.api_keys import bearer, client_of, make_key, opened_keys
from tests.service.servers import Server, assert_problem, npy, rows, running_service, upload

OPEN = ("/livez", "/readyz", "/healthz", "/openapi.json", "/docs")
A = rows(40, seed=1)
INLINE = {"a": {"vectors": A.tolist()}, "b": {"vectors": A.tolist()}}


@pytest.fixture(scope="module")
def guarded(redis_server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Run a service that has a key at its start."""
    folder = tmp_path_factory.mktemp("guarded")
    make_key(folder, "first")
    with running_service(folder, f"{redis_server}?db=10") as server:
        yield server


@pytest.fixture
def ana(guarded: Server) -> Iterator[httpx2.Client]:
    with client_of(guarded.url, make_key(guarded.folder, "ana")) as client:
        yield client


def test_only_health_checks_and_the_api_documentation_need_no_key(guarded: Server) -> None:
    with httpx2.Client(base_url=guarded.url) as client:
        assert [client.get(path).status_code for path in OPEN] == [200] * len(OPEN)
        for path in ("/v1/info", "/v1/jobs", "/nothing", "/livez/", "//livez", "/metrics"):
            answer = client.get(path)
            assert_problem(answer, 401, "unauthenticated", retryable=False)
            assert answer.headers["www-authenticate"] == 'Bearer realm="consilience"'


def test_a_key_gives_access_to_its_owners_records(ana: httpx2.Client) -> None:
    stored = upload(ana, A)
    job = ana.post("/v1/alignments", json=INLINE).json()

    assert (stored["owner"], job["owner"]) == ("ana", "ana")
    assert ana.get(stored["links"]["self"]).json() == stored
    assert ana.get("/v1/info").status_code == 200
    assert ana.get("/nothing").status_code == 404


def test_an_invalid_key_is_refused_without_being_quoted(guarded: Server) -> None:
    token = make_key(guarded.folder, "ana")
    wrong = token[:-4] + ("AAAA" if token[-4:] != "AAAA" else "BBBB")
    for header in (f"Bearer {wrong}", "Bearer", f"Basic {token}", token, f"Bearer {token} {token}"):
        answer = httpx2.get(guarded.url + "/v1/info", headers={"authorization": header})

        assert_problem(answer, 401, "unauthenticated")
        assert answer.headers["www-authenticate"] == 'Bearer realm="consilience", error="invalid_token"'
        assert token[-20:-4] not in answer.text


def test_the_authorization_scheme_is_case_insensitive(guarded: Server) -> None:
    token = make_key(guarded.folder, "ana")
    assert httpx2.get(guarded.url + "/v1/info", headers={"authorization": f"bearer {token}"}).status_code == 200


def test_a_revoked_key_is_refused(guarded: Server) -> None:
    token = make_key(guarded.folder, "ana")
    with client_of(guarded.url, token) as client, opened_keys(guarded.folder) as keys:
        assert client.get("/v1/jobs").status_code == 200
        keys.revoke("key_" + token.split("_")[1])
        assert "revoked" in assert_problem(client.get("/v1/jobs"), 401, "unauthenticated")["detail"]


def test_each_scope_allows_its_operations(guarded: Server) -> None:
    scopes = (Scope.READ, Scope.WRITE, Scope.ADMIN)
    reads, writes, metrics = [], [], []
    for scope in scopes:
        with client_of(guarded.url, make_key(guarded.folder, "ana", scope)) as client:
            reads.append(client.get("/v1/jobs").status_code)
            writes.append(client.post("/v1/alignments?dry_run=true", json=INLINE).status_code)
            metrics.append(client.get("/metrics").status_code)

    assert (reads, writes) == ([200, 403, 200], [403, 200, 200])
    assert metrics[:2] == [403, 403]
    assert metrics[2] != 403


def test_the_error_contains_the_missing_scope(guarded: Server) -> None:
    with client_of(guarded.url, make_key(guarded.folder, "ana", Scope.READ)) as client:
        answer = client.post("/v1/embeddings", content=npy(A))

    assert_problem(answer, 403, "forbidden", value="read", limit="write")
    assert answer.headers["www-authenticate"] == 'Bearer realm="consilience", error="insufficient_scope", scope="write"'


def test_an_admin_can_access_records_of_all_owners(guarded: Server, ana: httpx2.Client) -> None:
    job = ana.post("/v1/alignments", json=INLINE).json()
    with client_of(guarded.url, make_key(guarded.folder, "root", Scope.ADMIN)) as admin:
        assert admin.get(job["links"]["self"]).json() == job
        assert admin.post(job["links"]["cancel"]).json()["status"] == "canceled"
        assert upload(admin, A)["owner"] == "root"


def test_the_log_contains_only_the_public_id_of_a_key(guarded: Server) -> None:
    token = make_key(guarded.folder, "ana")
    with client_of(guarded.url, token) as client:
        client.get("/v1/jobs", params={"cursor": token})
        client.get(f"/v1/jobs/{token}")
        client.get("/v1/info", headers={"authorization": f"Bearer {token}x"})
        client.get("/v1/info", headers={"x-request-id": "the-last"})

    public = "key_" + token.split("_")[1]
    assert any(line.get("key") == public and line.get("route") == "/v1/jobs" for line in guarded.log())
    assert token[-43:] not in guarded.log_path.read_text()


def test_the_first_key_takes_effect_in_a_running_service(redis_server: str, tmp_path: Path) -> None:
    with running_service(tmp_path, f"{redis_server}?db=10") as server, httpx2.Client(base_url=server.url) as stranger:
        stored = upload(stranger, A)
        assert_problem(stranger.get("/v1/info", headers=bearer("csl_wrong")), 401, "unauthenticated")
        token = make_key(tmp_path, "ana")

        assert_problem(stranger.get("/v1/info"), 401, "unauthenticated")
        with client_of(server.url, token) as ana, client_of(server.url, make_key(tmp_path, "default")) as heir:
            assert_problem(ana.get(stored["links"]["self"]), 404, "not-found")
            assert heir.get(stored["links"]["self"]).json() == stored
        with opened_keys(tmp_path) as keys:
            for key in keys.all():
                keys.revoke(key.id)
        assert_problem(stranger.get("/v1/info"), 401, "unauthenticated")


def test_keys_can_be_required_before_the_first_exists(redis_server: str, tmp_path: Path) -> None:
    with running_service(tmp_path, f"{redis_server}?db=10", require_keys="true") as server:
        assert_problem(httpx2.get(server.url + "/v1/info"), 401, "unauthenticated")


def test_responses_have_the_remaining_rate_limit(redis_server: str, tmp_path: Path) -> None:
    token = make_key(tmp_path, "ana")
    with (
        running_service(tmp_path, f"{redis_server}?db=10", rate_limit_per_minute=4) as server,
        client_of(server.url, token) as ana,
        client_of(server.url, make_key(tmp_path, "ana")) as other,
    ):
        answers = [ana.get("/v1/info"), ana.get("/nothing"), ana.get("/v1/jobs"), ana.get("/v1/info")]
        refused = ana.get("/v1/info")

        assert [answer.status_code for answer in answers] == [200, 404, 200, 200]
        left = [int(re.search(r"r=(\d+)", answer.headers["ratelimit"])[1]) for answer in answers]  # type: ignore[index]  # it is there
        assert left == [3, 2, 1, 0]
        assert {answer.headers["ratelimit-policy"] for answer in [*answers, refused]} == {'"requests";q=4;w=60'}
        hint = assert_problem(refused, 429, "too-many-requests", limit=4, retryable=True)["hint"]
        assert "CONSILIENCE_RATE_LIMIT_PER_MINUTE" in hint
        assert 1 <= int(refused.headers["retry-after"]) <= 15
        assert refused.headers["ratelimit"].startswith('"requests";r=0;t=')
        assert other.get("/v1/info").status_code == ana.get("/readyz").status_code == 200


def test_an_upload_over_the_quota_is_refused(redis_server: str, tmp_path: Path) -> None:
    limits = {"owner_bytes_limit": 10_000, "inline_limit_bytes": 1000, "column_limit_bytes": 1000}
    token = make_key(tmp_path, "ana")
    with running_service(tmp_path, f"{redis_server}?db=10", **limits) as server, client_of(server.url, token) as ana:
        declared = ana.post("/v1/embeddings", content=bytes(30_000))
        streamed = ana.post("/v1/embeddings", content=iter([bytes(1000)] * 30))  # its length is not known beforehand

        for answer in (declared, streamed):
            hint = assert_problem(answer, 413, "quota-exceeded", limit=10_000)["hint"]
            assert "CONSILIENCE_OWNER_BYTES_LIMIT" in hint
        assert not any(name.startswith("incoming") for name in server.contents()["files"])


def test_storage_and_queue_of_an_owner_are_limited(redis_server: str, tmp_path: Path) -> None:
    limits = {"owner_bytes_limit": A.nbytes + 100, "owner_queue_limit": 1}
    tokens = [make_key(tmp_path, owner) for owner in ("ana", "ana", "bob")]
    with (
        running_service(tmp_path, f"{redis_server}?db=10", **limits) as server,
        client_of(server.url, tokens[0]) as ana,
        client_of(server.url, tokens[1]) as ana_too,
        client_of(server.url, tokens[2]) as bob,
    ):
        stored = upload(ana, A)
        body = {"a": {"embedding": stored["id"]}, "b": {"embedding": stored["id"]}}
        assert ana.post("/v1/alignments", json=body).status_code == 202
        before = server.contents()

        too_much = ana_too.post(
            "/v1/embeddings?name=more", content=npy(A), headers={"content-type": "application/x-npy"}
        )
        too_many = ana_too.post("/v1/alignments", json=body)

        assert "OWNER_BYTES_LIMIT" in assert_problem(too_much, 413, "quota-exceeded", limit=A.nbytes + 100)["hint"]
        assert "OWNER_QUEUE_LIMIT" in assert_problem(too_many, 429, "too-many-requests", limit=1)["hint"]
        assert server.contents() == before
        assert upload(bob, A)["owner"] == "bob"
