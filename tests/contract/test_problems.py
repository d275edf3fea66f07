import pytest

from consilience import errors
from consilience.contract.problems import Problem
from consilience.errors import ConsilienceError, TooFewRows

TREE = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, ConsilienceError)]


def test_a_problem_document_has_the_data_of_the_error() -> None:
    problem = Problem.of(TooFewRows("There are 3 rows.", value=3, limit=4, hint="Add one.", pointer="/a"), 422)
    assert (problem.code, problem.status, problem.value, problem.limit) == ("too-few-rows", 422, "3", 4)
    assert (problem.detail, problem.hint, problem.pointer) == ("There are 3 rows.", "Add one.", "/a")


def test_a_long_value_is_shortened() -> None:
    assert len(TooFewRows("x", value="v" * 10_000).value or "") == 200


def test_every_error_has_a_unique_code_and_is_in_the_documented_tree() -> None:
    assert len({cls.code for cls in TREE}) == len(TREE) > 25
    for cls in TREE:
        assert f"* {cls.__name__}" in (errors.__doc__ or ""), cls.__name__


@pytest.mark.parametrize("cls", TREE)
def test_every_error_has_a_title(cls: type[ConsilienceError]) -> None:
    assert "title" in vars(cls)
