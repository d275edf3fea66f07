"""`consilience study` without a server."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from pyarrow import parquet

from consilience.cli.study import parse_models, parse_trend
from consilience.contract.study_results import StudyDocument
from consilience.errors import InvalidRequest
from consilience.studies.local import study
from tests.cli.conftest import Command

N = 60


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    rng = np.random.default_rng(0)
    latent, made = rng.normal(size=(N, 4)), {}
    for name, noise in {"tiny": 2.0, "small": 1.0, "large": 0.3}.items():
        made[name] = tmp_path / f"{name}.npy"
        np.save(made[name], (latent + noise * rng.normal(size=(N, 4))).astype(np.float32))
    return made


def test_files_are_compared_with_each_other_and_labelled_by_their_names(
    consilience: Command, files: dict[str, Path]
) -> None:
    ran = consilience("study", *files.values(), "--metric", "mutual_knn", "--k", 5)
    assert ran.status == 0
    for part in ("3 models, 3 of 3 cells", "mutual_knn k=5", "tiny", "large", "dendrogram order:"):
        assert part in ran.out


def test_json_output_is_the_document_of_the_library(consilience: Command, files: dict[str, Path]) -> None:
    words = ("--metric", "cka", "--no-interval", "--profile", "centre_l2", "--json")
    ran = consilience("study", f"a={files['tiny']}", files["small"], "--against", f"big={files['large']}", *words)
    document = StudyDocument.model_validate_json(ran.out)
    expected = study(
        {"a": files["tiny"], "small": files["small"]},
        {"big": files["large"]},
        metrics="cka",
        interval=None,
        preparation="centre_l2",
    )
    assert document.matrices == expected.matrices
    assert not document.square


def test_analyses_are_printed_below_the_matrices(consilience: Command, files: dict[str, Path], tmp_path: Path) -> None:
    known = {name: {"params": 10**number} for number, name in enumerate(files)}
    (tmp_path / "numbers.json").write_text(json.dumps(known))
    ran = consilience(
        *(
            "study",
            *files.values(),
            "--metric",
            "mutual_knn",
            "--metric",
            "cka",
            "--metadata",
            tmp_path / "numbers.json",
        ),
        *("--trend", "params:bins=2", "--difference", "large,tiny,small"),
    )
    assert ran.status == 0, ran.err
    for part in ("params (mutual_knn:k=10)", "Spearman", "large - tiny, relative to small", "agree:"):
        assert part in ran.out


def test_the_suffix_of_the_output_file_chooses_its_format(
    consilience: Command, files: dict[str, Path], tmp_path: Path
) -> None:
    for name in ("study.csv", "study.parquet", "study.json"):
        assert consilience("study", *files.values(), "--metric", "cka", "--out", tmp_path / name).status == 0
    document = StudyDocument.model_validate_json((tmp_path / "study.json").read_text())
    values = [cell.value for cell in document.matrices[0].cells]
    with (tmp_path / "study.csv").open() as file:
        assert [float(line["value"]) for line in csv.DictReader(file)] == values
    assert parquet.read_table(tmp_path / "study.parquet")["value"].to_pylist() == values


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["no.npy", "other.npy"], "The file no.npy does not exist."),
        (["a=x.npy", "a=y.npy"], "Two models have the label a."),
        (
            ["a=x.npy", "b=y.npy", "--difference", "a,b"],
            "--difference needs three labels, FIRST,SECOND,REFERENCE; got 'a,b'",
        ),
        (["a=x.npy", "b=y.npy", "--trend", "params:kind=4"], "There is no --trend option 'kind'"),
        (["a=x.npy", "b=y.npy", "--trend", "params:bins=1"], "bins"),
        (
            ["a=x.npy", "b=y.npy", "--out", "study.xlsx"],
            "--out needs a file name that ends in .json, .csv or .parquet; got 'study.xlsx'.",
        ),
    ],
)
def test_bad_usage_has_exit_status_2_and_names_the_value(consilience: Command, words: list[str], message: str) -> None:
    ran = consilience("study", *words)
    assert ran.status == 2
    assert message in ran.err


def test_invalid_metadata_is_rejected(consilience: Command, files: dict[str, Path], tmp_path: Path) -> None:
    bad = tmp_path / "bad.json"
    bad.write_text("[1]")
    ran = consilience("study", *files.values(), "--metadata", bad)
    assert (ran.status, "must contain a JSON object with an object for each label" in ran.err) == (2, True)


def test_models_and_trends_are_parsed() -> None:
    assert parse_models(["a=x/y=z.npy", "q/old model.npy"]) == {"a": "x/y=z.npy", "old model": "q/old model.npy"}
    assert parse_trend("loss:side=columns,covariates=width,bins=4") == {
        "by": "loss",
        "side": "columns",
        "covariates": ["width"],
        "bins": 4,
    }
    with pytest.raises(InvalidRequest):
        parse_models(["x.npy", "d/x.npy"])
