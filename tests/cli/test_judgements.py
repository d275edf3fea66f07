"""Files of relevance judgements."""

from pathlib import Path

import pytest

from consilience.cli.parsing import read_qrels
from consilience.errors import InputError

WANTED = {"q1": ["d1", "d2"], "q2": ["d3"]}


@pytest.mark.parametrize(
    "text",
    [
        '{"q1": ["d1", "d2"], "q2": ["d3"]}',
        '{"q1": {"d1": 1, "d2": 2, "d9": 0}, "q2": {"d3": 1}}',
        "q1 0 d1 1\nq1 0 d2 2\nq1 0 d9 0\n\nq2 0 d3 1\n",
        "query-id\tcorpus-id\tscore\nq1\td1\t1\nq1\td2\t1\nq2\td3\t1\n",
    ],
    ids=["lists", "relevances", "TREC", "BEIR"],
)
def test_every_form_says_which_documents_answer_which_query(tmp_path: Path, text: str) -> None:
    path = tmp_path / "qrels"
    path.write_text(text)
    assert read_qrels(path) == WANTED


@pytest.mark.parametrize(
    "text", ['{"q1": "d1"}', '{"q1": [', "q1 d1\n", "q1 0 d1 much\n", '{"q1": {"d1": "much"}}', "q1 0 d1 1 5\n"]
)
def test_what_is_no_judgement_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "qrels"
    path.write_text(text)
    with pytest.raises(InputError):
        read_qrels(path)


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "qrels"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError):
        read_qrels(path)
