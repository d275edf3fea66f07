from pathlib import Path

from consilience.memory import find_job_memory, find_memory


def test_a_lower_memory_limit_of_a_container_counts(tmp_path: Path) -> None:
    limit, none, missing = tmp_path / "limit", tmp_path / "none", tmp_path / "missing"
    limit.write_text("4096000\n")
    none.write_text("max\n")
    whole = find_memory(())
    assert find_memory((limit,)) == find_memory((missing, none, limit)) == 4_096_000
    assert find_memory((none, missing)) == whole > 10**8


def test_a_job_plans_with_half_of_the_memory() -> None:
    assert find_job_memory() == find_memory() // 2
