"""What stops a start before anything has started."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

import consilience
from consilience.errors import StartupError
from consilience.standalone.serve import free_port, lock_data_dir


def test_a_busy_port_is_named_with_the_way_out() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(StartupError, match=rf"Port {port} on 127.0.0.1 is in use.*--port"):
            free_port("127.0.0.1", port)


def test_port_0_is_any_free_one() -> None:
    assert free_port("127.0.0.1", 0) > 0


@pytest.mark.parametrize("host", ["192.0.2.1", "no such host"])
def test_an_address_that_is_not_ours_is_refused(host: str) -> None:
    with pytest.raises(StartupError, match=host):
        free_port(host, 0)


def test_a_locked_folder_is_refused_with_the_process_that_holds_it(tmp_path: Path) -> None:
    with lock_data_dir(tmp_path / "new"):
        assert (tmp_path / "new").stat().st_mode & 0o777 == 0o700
        with (
            pytest.raises(StartupError, match=rf"{tmp_path}/new is in use by process {os.getpid()}"),
            lock_data_dir(tmp_path / "new"),
        ):
            pass
    with lock_data_dir(tmp_path / "new"):
        pass


def test_a_data_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StartupError, match="cannot be opened"), lock_data_dir(tmp_path / "file"):
        pass


def test_the_wheel_alone_explains_how_to_install_the_service(tmp_path: Path) -> None:
    """As installed from the wheel: `consilience` and its dependencies can be imported, `service` and `workers` not."""
    (tmp_path / "consilience").symlink_to(Path(consilience.__file__).parent)
    packages = next(path for path in sys.path if path.endswith("site-packages"))
    command = [
        sys.executable,
        "-S",
        "-P",
        "-m",
        "consilience.cli",
        "serve",
        "--port",
        "0",
        "--data-dir",
        str(tmp_path / "data"),
    ]
    ran = subprocess.run(
        command, check=False, capture_output=True, text=True, env={"PYTHONPATH": f"{tmp_path}:{packages}"}, cwd=tmp_path
    )
    assert ran.returncode == 2
    assert "the wheel contains only the library" in ran.stderr
    assert "Clone the repository" in ran.stderr
    assert not (tmp_path / "data").exists()
