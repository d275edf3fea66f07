"""Conformance of responses to the OpenAPI document, by Schemathesis."""

import re
from collections import Counter
from pathlib import Path

import pytest

from consilience.contract.keys import Scope
from tests.service.api_keys import make_key
from tests.service.fuzzing import fuzz, fuzzed_service, read_report
from tests.service.openapi_document import operations
from tests.service.servers import running_service

#: Fewer would mean that a phase did not run.
CASES_AT_LEAST = 1000
#: Of those by which an answer leads to another request; a run in which none is followed is a success to Schemathesis too.
LINKS_AT_LEAST = 6


@pytest.mark.timeout(300)
def test_no_response_is_a_server_error_or_undocumented(redis_server: str, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    with fuzzed_service(tmp_path / "data", f"{redis_server}?db=14") as server:
        finished = fuzz(server, report, "--generation-deterministic", "--max-examples", "8")

        assert finished.returncode == 0, finished.stdout + finished.stderr
        assert [line for line in server.log() if line["level"] == "error"] == []
    found = read_report(report)
    cases = found["test_cases"]
    assert cases["generated"] >= CASES_AT_LEAST
    assert (cases["with_failures"], cases["errored"]) == (0, 0)
    assert found["operations"]["tested"] == len(list(operations())), "each operation of the document, also a new one"
    # Stateful: what one answer links to, by its `Location` and its `links`, is asked next.
    followed = re.search(r"API Links: +(\d+) covered", finished.stdout)
    assert followed
    assert int(followed[1]) >= LINKS_AT_LEAST
    phases = {name: phase["status"] for name, phase in found["phases"].items()}
    assert phases == dict.fromkeys(("examples", "coverage", "fuzzing", "stateful"), "success")


@pytest.mark.timeout(120)
def test_responses_of_the_middleware_are_documented(redis_server: str, tmp_path: Path) -> None:
    report, folder = tmp_path / "report.json", tmp_path / "data"
    token = make_key(folder, "reader", Scope.READ)
    with running_service(folder, f"{redis_server}?db=15", rate_limit_per_minute=50) as server:
        words = ["--phases", "fuzzing", "--generation-deterministic", "--max-examples", "8"]
        finished = fuzz(server, report, *words, "--header", f"Authorization: Bearer {token}")
        answered = Counter(line["status"] for line in server.log() if line["event"] == "request")

    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert min(answered[403], answered[429]) > 5, answered
