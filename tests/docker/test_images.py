"""The Dockerfiles, checked without an engine: their lint, their users, their commands and what they install."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from importlib.metadata import requires
from importlib.util import find_spec
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
EXTRAS: dict[str, list[str]] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
HEAVY = {"torch", "faiss-cpu", "numba", "scipy", "transformers"}


@dataclass(frozen=True)
class Instruction:
    """One instruction of a Dockerfile: its word, and the rest on one line."""

    word: str
    rest: str


class Dockerfile:
    """A Dockerfile's instructions in order."""

    def __init__(self, path: Path) -> None:
        lines = (line for line in path.read_text().splitlines() if not line.lstrip().startswith("#"))
        text = re.sub(r"\\\n\s*", "", "\n".join(lines))
        self.instructions = [Instruction(*line.split(maxsplit=1)) for line in text.splitlines() if line.strip()]
        self.stages = "\n".join(f"{one.word} {one.rest}" for one in self.instructions).split("\nFROM ")[1:]

    def all(self, word: str) -> list[str]:
        """What follows each instruction of a kind."""
        return [one.rest for one in self.instructions if one.word == word]

    def last(self, word: str) -> str:
        """What follows the last instruction of a kind: the one that holds."""
        return self.all(word)[-1]

    @property
    def command(self) -> list[str]:
        """The command that the container runs."""
        command: list[str] = json.loads(self.last("CMD"))
        return command

    @property
    def extras(self) -> set[str]:
        """The extras that pip installs; those of the argument EXTRAS where they can be chosen."""
        found: str = re.findall(r'"\.\[(.+?)\]"', " ".join(self.all("RUN")))[0]
        chosen = dict(argument.split("=", 1) for argument in self.all("ARG")).get("EXTRAS", "")
        return set(found.replace("${EXTRAS}", chosen).split(","))

    @property
    def environment(self) -> dict[str, str]:
        """What the last stage's ENV sets."""
        return dict(pair.split("=", 1) for pair in self.last("ENV").split())


@pytest.fixture(scope="session")
def service_image() -> Dockerfile:
    return Dockerfile(ROOT / "docker" / "service.Dockerfile")


@pytest.fixture(scope="session")
def worker_image() -> Dockerfile:
    return Dockerfile(ROOT / "docker" / "worker.Dockerfile")


@pytest.fixture(scope="session", params=["service", "worker"])
def image(request: pytest.FixtureRequest) -> Dockerfile:
    """Each image."""
    return Dockerfile(ROOT / "docker" / f"{request.param}.Dockerfile")


@pytest.fixture(scope="session")
def clean_environment() -> dict[str, str]:
    """This process's environment without any setting of ours."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("CONSILIENCE_", "NUMBA_"))}


def closure(lines: list[str]) -> set[str]:
    """Every distribution that an install of these requirements brings, from what the installed ones say."""
    found: set[str] = set()
    wanted = [Requirement(line) for line in lines]
    seen: set[tuple[str, frozenset[str]]] = set()
    while wanted:
        one = wanted.pop()
        name = canonicalize_name(one.name)
        key = (name, frozenset(one.extras))
        if key in seen:
            continue
        seen.add(key)
        if name == "consilience":
            wanted += [Requirement(line) for extra in one.extras for line in EXTRAS[extra]]
            continue
        found.add(name)
        parts = [Requirement(line) for line in requires(name) or []]
        wanted += [part for part in parts if applies(part, one.extras)]
    return found


def applies(requirement: Requirement, extras: set[str]) -> bool:
    """Whether a requirement holds here, asked for with these extras."""
    marker = requirement.marker
    return marker is None or any(marker.evaluate({"extra": extra}) for extra in {"", *extras})


@pytest.mark.parametrize("name", ["service.Dockerfile", "worker.Dockerfile"])
def test_hadolint_finds_nothing(name: str) -> None:
    hadolint = Path(sys.executable).parent / "hadolint"
    result = subprocess.run([hadolint, ROOT / "docker" / name], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout) == (0, "")


def test_pip_installs_extras_that_exist_under_the_constraints(image: Dockerfile) -> None:
    (install,) = [command for command in image.all("RUN") if "pip install" in command]
    assert image.extras <= EXTRAS.keys()
    assert "--constraint constraints.txt" in install


def test_the_service_image_holds_nothing_that_computes(service_image: Dockerfile) -> None:
    distributions = closure([f"consilience[{','.join(service_image.extras)}]"])
    assert {"fastapi", "uvicorn", "rq", "sqlalchemy", "psycopg", "numpy"} <= distributions
    assert distributions & HEAVY == set()
    assert [name for name in distributions if name.startswith("nvidia")] == []


def test_the_worker_image_holds_everything_that_computes_and_no_http_server(worker_image: Dockerfile) -> None:
    distributions = closure([f"consilience[{','.join(worker_image.extras)}]"])
    assert {"torch", "faiss-cpu", "numba", "scipy", "rq", "psycopg"} <= distributions
    assert distributions & {"fastapi", "uvicorn", "starlette"} == set()


def test_the_index_of_pytorch_is_a_build_argument_for_the_processor_by_default(worker_image: Dockerfile) -> None:
    assert "TORCH_INDEX=https://download.pytorch.org/whl/cpu" in worker_image.all("ARG")
    (install,) = [command for command in worker_image.all("RUN") if "pip install" in command]
    assert '--extra-index-url "${TORCH_INDEX}"' in install


def test_the_applications_are_copied_and_not_installed(service_image: Dockerfile, worker_image: Dockerfile) -> None:
    assert "service service" in service_image.all("COPY")
    assert "workers workers" in worker_image.all("COPY")
    assert not [line for line in service_image.all("COPY") if line.startswith("workers")]
    assert not [line for line in worker_image.all("COPY") if line.startswith("service")]


def test_everything_that_is_copied_exists_and_passes_the_ignore_file(image: Dockerfile) -> None:
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    for line in image.all("COPY"):
        if not line.startswith("--from"):
            for source in line.split()[:-1]:
                assert (ROOT / source).exists(), source
                assert source.split("/")[0] in allowed, source


def test_the_ignore_file_begins_by_leaving_everything_out() -> None:
    rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert rules[0] == "*"
    assert not [rule for rule in rules if rule in ("!.git", "!.venv", "!tests", "!.env")]


def test_the_container_runs_as_a_user_without_rights(image: Dockerfile) -> None:
    assert image.last("USER") == "10001:10001"
    assert any("useradd --uid 10001" in command for command in image.all("RUN"))


def test_both_images_write_to_the_same_folder_as_the_same_user(
    service_image: Dockerfile, worker_image: Dockerfile
) -> None:
    users = [next(run for run in image.all("RUN") if "useradd" in run) for image in (service_image, worker_image)]
    assert users[0] == users[1]
    for image in (service_image, worker_image):
        assert image.last("VOLUME") == image.environment["CONSILIENCE_DATA_DIR"] == "/data"


def test_no_secret_is_baked_in(image: Dockerfile) -> None:
    named = " ".join(image.all("ENV") + image.all("ARG"))
    assert re.findall(r"(?i)\w*(?:password|secret|token|_key|redis_url|database_url)\w*", named) == []


def test_the_health_is_asked_by_python(image: Dockerfile) -> None:
    assert 'CMD ["python", ' in image.last("HEALTHCHECK")


def test_the_entry_point_is_a_module_that_is_copied(image: Dockerfile) -> None:
    line = image.command[-1] if image.command[0] == "sh" else shlex.join(image.command)
    module = re.findall(r"python -m (\w+)$", line)[0]
    assert find_spec(f"{module}.__main__") is not None
    assert f"{module} {module}" in image.all("COPY")


def test_the_images_prepare_kernels_as_make_does(worker_image: Dockerfile) -> None:
    step = "python -m consilience.numerics.compile_kernels"
    assert step in (ROOT / "Makefile").read_text()
    assert any(step in command for command in worker_image.all("RUN"))


def test_the_cached_kernels_serve_a_worker_whose_image_is_mounted_read_only(
    worker_image: Dockerfile, tmp_path: Path, clean_environment: dict[str, str]
) -> None:
    # The build's and the start's own commands, with the folders moved under tmp_path.
    (build,) = [command for command in worker_image.all("RUN") if "compile_kernels" in command]
    run(moved(build, tmp_path), clean_environment)
    start, cache = worker_image.command[-1], worker_image.environment["NUMBA_CACHE_DIR"]
    (tmp_path / "tmp").mkdir()
    environment = clean_environment | {
        "NUMBA_CPU_NAME": worker_image.environment["NUMBA_CPU_NAME"],
        "NUMBA_CACHE_DIR": f"{tmp_path}{cache}",
    }
    load = "from consilience.numerics.neighbour_overlap.kernels import count_grid_overlaps as f"
    program = f"{load}; print(dict(f.stats.cache_misses))"
    begun = moved(start.replace("exec python -m workers", f"exec python -c {shlex.quote(program)}"), tmp_path)
    assert run(begun, environment).strip() == "{}", "nothing was compiled anew"


def moved(command: str, folder: Path) -> str:
    """A command of an image with its absolute paths under a folder, and this Python in the image's Python's place."""
    command = re.sub(r"(?<=[ =])/(?=opt/numba|tmp/)", f"{folder}/", command)
    command = command.replace("/opt/venv/bin/python", shlex.quote(sys.executable))
    return re.sub(r"\bpython -c", f"{shlex.quote(sys.executable)} -c", command)


def run(command: str, environment: dict[str, str]) -> str:
    result = subprocess.run(
        ["sh", "-c", command], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_the_worker_reports_its_health_by_what_it_reaches(
    redis_url: str, sqlite_url: str, clean_environment: dict[str, str], tmp_path: Path
) -> None:
    # As in the image: the script and the package lie side by side.
    shutil.copy(ROOT / "docker" / "worker_health.py", tmp_path)
    (tmp_path / "workers").symlink_to(ROOT / "workers")
    environment = clean_environment | {"CONSILIENCE_REDIS_URL": redis_url, "CONSILIENCE_DATABASE_URL": sqlite_url}

    def ask(**changes: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "worker_health.py"]
        env = environment | changes
        return subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)

    assert ask().returncode == 0
    broken = ask(CONSILIENCE_REDIS_URL="redis://:hidden@127.0.0.1:1/0")
    assert broken.returncode == 1
    assert "Redis does not respond" in broken.stderr
    assert "hidden" not in broken.stderr
