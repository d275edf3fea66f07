"""Files of relevance judgements: JSON, or the lines of TREC and BEIR."""

import json
from collections import defaultdict
from pathlib import Path

from consilience.errors import InvalidRequest, UnreadableFile

Judgements = dict[str, list[str]]


def read_judgements(path: Path) -> Judgements:
    """For each query the documents that answer it.

    A JSON object `{query: [document, ...]}` or `{query: {document: relevance}}`; or one judgement a line, `query 0 document
    relevance` (TREC) or `query document relevance` (BEIR), where a relevance of 0 or less is no answer.

    Raises
    ------
    UnreadableFile, InvalidRequest
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UnreadableFile(f"{path} cannot be read: {error}.", value=path) from error
    return _read_json(text, path) if text.lstrip().startswith("{") else _read_lines(text, path)


def _read_json(text: str, path: Path) -> Judgements:
    try:
        found = json.loads(text)
    except ValueError as error:
        raise UnreadableFile(f"{path} is no JSON: {error}.", value=path) from error
    judgements: Judgements = {}
    for query, answers in found.items():
        if isinstance(answers, dict):
            judgements[query] = [item for item, relevance in answers.items() if _number(relevance, path) > 0]
        elif isinstance(answers, list):
            judgements[query] = [str(item) for item in answers]
        else:
            raise InvalidRequest(
                f"The judgement of {query!r} is no list of documents.",
                value=answers,
                hint='Write {"query": ["document"]}.',
            )
    return judgements


def _read_lines(text: str, path: Path) -> Judgements:
    judgements: defaultdict[str, list[str]] = defaultdict(list)
    for number, line in enumerate(text.splitlines(), 1):
        columns = line.split()
        if not columns or (number == 1 and columns[-1] == "score"):  # BEIR's heading
            continue
        if len(columns) not in (3, 4):
            raise UnreadableFile(
                f"Line {number} of {path} is no judgement.",
                value=line,
                hint="Write `query 0 document relevance` (TREC) or `query document relevance` (BEIR).",
            )
        if _number(columns[-1], path) > 0:
            judgements[columns[0]].append(columns[-2])
    return dict(judgements)


def _number(relevance: object, path: Path) -> float:
    try:
        return float(str(relevance))
    except ValueError:
        raise UnreadableFile(f"{path}: {relevance!r} is no relevance.", value=relevance) from None
