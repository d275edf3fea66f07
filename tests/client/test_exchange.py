"""Problem documents and exceptions are the same things."""

import pytest

from consilience.client.exchange import error_of
from consilience.contract.problems import Problem
from consilience.errors import ConsilienceError, InputError, ServiceError
from tests.client.documents import problem


def all_kinds(root: type[ConsilienceError]) -> list[type[ConsilienceError]]:
    return [root, *(kind for child in root.__subclasses__() for kind in all_kinds(child))]


@pytest.mark.parametrize("kind", [k for k in all_kinds(ConsilienceError) if k.__module__ == "consilience.errors"])
def test_every_error_comes_back_as_its_own_class_with_its_data(kind: type[ConsilienceError]) -> None:
    sent = kind("Wrong.", value="v", limit=3, hint="Mend it.", pointer="/a")
    received = error_of(Problem.of(sent, 400))
    assert type(received).code == kind.code
    assert vars(received) == vars(sent)


@pytest.mark.parametrize(("status", "kind"), [(418, InputError), (500, ServiceError)])
def test_a_problem_of_a_newer_service_is_known_by_its_status(status: int, kind: type[ConsilienceError]) -> None:
    assert type(error_of(Problem.model_validate(problem("never-heard-of", status)))) is kind
