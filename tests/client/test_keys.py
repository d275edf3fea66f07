"""The API key is sent with every request and never shown."""

import pytest

from consilience.client.sync import Client
from consilience.errors import Forbidden, InvalidRequest, TooManyRequests, Unauthenticated
from tests.client.conftest import Call
from tests.client.documents import JOB_ID, job, problem
from tests.client.scripted import Answer, Script, serving

KEY = "csl_0123456789abcdef_" + "s3cret-" * 6 + "x"
OTHER = "csl_fedcba9876543210_" + "A" * 43


@pytest.mark.parametrize(("variable", "parameter", "sent"), [(KEY, None, KEY), (KEY, OTHER, OTHER), (None, KEY, KEY)])
def test_the_key_comes_from_the_caller_or_the_environment(
    call: Call, monkeypatch: pytest.MonkeyPatch, variable: str | None, parameter: str | None, sent: str
) -> None:
    if variable:
        monkeypatch.setenv("CONSILIENCE_API_KEY", variable)
    with serving(Script(Answer(body=job()))) as script:
        call(script.url, lambda client: client.job(JOB_ID), api_key=parameter, headers={"x-of-mine": "1"})

    assert script.seen[0].headers["authorization"] == f"Bearer {sent}"
    assert script.seen[0].headers["x-of-mine"] == "1"


@pytest.mark.parametrize("parameter", [None, ""])
def test_without_a_key_none_is_sent(call: Call, monkeypatch: pytest.MonkeyPatch, parameter: str | None) -> None:
    monkeypatch.setenv("CONSILIENCE_API_KEY", KEY if parameter == "" else "")
    with serving(Script(Answer(body=job()))) as script:
        call(script.url, lambda client: client.job(JOB_ID), api_key=parameter)

    assert "authorization" not in script.seen[0].headers


@pytest.mark.parametrize("wrong", [KEY + "\n", KEY[:-1], "Bearer " + KEY, KEY + "é"])
def test_a_malformed_key_is_refused_and_not_quoted(call: Call, wrong: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        call("http://127.0.0.1:1", lambda client: client.info(), api_key=wrong)

    assert "s3cret" not in f"{caught.value!r} {caught.value} {caught.value.value}"


def test_a_client_does_not_show_its_key() -> None:
    with Client(api_key=KEY) as client:
        assert "s3cret" not in f"{client!r} {vars(client)} {client._http.headers!r}"


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (401, "unauthenticated", Unauthenticated),
        (403, "forbidden", Forbidden),
        (429, "too-many-requests", TooManyRequests),
    ],
)
def test_a_refused_key_raises_the_error_of_the_code(call: Call, status: int, code: str, kind: type[Exception]) -> None:
    with serving(Script(Answer(status, problem(code, status)))) as script, pytest.raises(kind):
        call(script.url, lambda client: client.job(JOB_ID), api_key=KEY, retry_timeout_s=0.1)
