import threading
from collections.abc import Callable

import pytest

from consilience.contract.embeddings import EmbeddingSet
from consilience.contract.jobs import Job, JobStatus, Plan, Progress
from consilience.contract.scores import ScoreDocument
from consilience.errors import InvalidRequest, KeyReused, NotFound
from consilience.stores.jobs import JobRecords
from consilience.stores.leases import Leases

AddJob = Callable[..., Job]
PLAN = Plan(n=4, dim_a=1, dim_b=1, cells=1, flops=1.0, bytes=1, seconds=0.0)
UNKNOWN = ["job_" + "0" * 32, "job_", "", "emb_" + "0" * 32, "job_\x00", "job_" + "Z" * 32]


def test_a_new_job_is_queued_and_says_where_it_is(jobs: JobRecords, add_set: Callable[..., EmbeddingSet]) -> None:
    used = add_set("x")
    job, delivery, created = jobs.add("alignment", {"seed": 3}, PLAN, [used.id])
    assert (delivery, created, job.status, job.runs, job.request) == (1, True, JobStatus.QUEUED, (), {"seed": 3})
    assert (job.plan, job.result, job.error, job.started_at, job.finished_at) == (PLAN, None, None, None, None)
    link = f"/v1/jobs/{job.id}"
    assert job.links == {"self": link, "cancel": f"{link}/cancel", "events": f"{link}/events"}
    assert jobs.get(job.id) == job


def test_a_job_on_a_set_that_is_gone_is_refused_and_leaves_nothing(jobs: JobRecords) -> None:
    gone = "emb_" + "0" * 32
    with pytest.raises(NotFound) as caught:
        jobs.add("alignment", {}, PLAN, [gone], ("key", "sha"))
    assert caught.value.value == gone
    assert jobs.page(None, 10).data == ()
    assert jobs.add("alignment", {}, PLAN, [], ("key", "other")).created


def test_the_same_key_and_body_is_the_same_job(jobs: JobRecords) -> None:
    first = jobs.add("alignment", {}, PLAN, [], ("key", "sha"))
    again = jobs.add("alignment", {}, PLAN, [], ("key", "sha"))
    assert (again.job, again.created) == (first.job, False)


def test_the_same_key_with_another_body_is_refused(jobs: JobRecords) -> None:
    jobs.add("alignment", {}, PLAN, [], ("key", "sha"))
    with pytest.raises(KeyReused) as caught:
        jobs.add("alignment", {}, PLAN, [], ("key", "other"))
    assert caught.value.value == "key"
    assert len(jobs.page(None, 10).data) == 1


def test_the_same_key_at_the_same_time_is_one_job(jobs: JobRecords) -> None:
    ids: list[str] = []

    def add() -> None:
        ids.append(jobs.add("alignment", {}, PLAN, [], ("key", "sha")).job.id)

    threads = [threading.Thread(target=add) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(ids) == 6
    assert len(set(ids)) == 1


def test_a_key_that_is_too_long_is_refused(jobs: JobRecords) -> None:
    with pytest.raises(InvalidRequest) as caught:
        jobs.add("alignment", {}, PLAN, [], ("k" * 256, "sha"))
    assert caught.value.limit == 255


@pytest.mark.parametrize("unknown", UNKNOWN)
def test_an_unknown_id_is_not_found(jobs: JobRecords, unknown: str) -> None:
    for ask in (jobs.get, jobs.version, jobs.request_cancel):
        with pytest.raises(NotFound) as caught:
            ask(unknown)
        assert caught.value.value == unknown


def test_jobs_are_listed_newest_first_and_by_status(jobs: JobRecords, add_job: AddJob) -> None:
    ids = [add_job().id for _ in range(3)]
    jobs.request_cancel(ids[1])
    assert [job.id for job in jobs.page(None, 10).data] == ids[::-1]
    assert [job.id for job in jobs.page(None, 10, JobStatus.QUEUED).data] == [ids[2], ids[0]]
    first = jobs.page(None, 1, JobStatus.QUEUED)
    assert [job.id for job in jobs.page(first.next_cursor, 1, JobStatus.QUEUED).data] == [ids[0]]


def test_the_version_changes_with_every_change_that_a_user_can_see_and_with_no_other(
    jobs: JobRecords, leases: Leases, add_job: AddJob, score: ScoreDocument
) -> None:
    job_id = add_job().id
    seen = [jobs.version(job_id)]
    for change in (
        lambda: leases.claim(job_id, 1, "w"),
        lambda: leases.progress(job_id, 1, Progress(stage="scoring", done=1, total=2)),
        lambda: jobs.request_cancel(job_id),
        lambda: leases.succeed(job_id, 1, score),
    ):
        change()
        seen.append(jobs.version(job_id))
    assert seen == [1, 2, 3, 4, 5]
    leases.heartbeat(job_id, 1)
    jobs.request_cancel(job_id)
    assert jobs.versioned(job_id) == (jobs.get(job_id), 5)


def test_a_queued_job_is_canceled_at_once(jobs: JobRecords, leases: Leases, add_job: AddJob) -> None:
    job = jobs.request_cancel(add_job().id)
    assert (job.status, job.cancel_requested) == (JobStatus.CANCELED, False)
    assert job.finished_at is not None
    assert leases.claim(job.id, 1, "w") is None


def test_a_running_job_is_asked_to_stop(jobs: JobRecords, leases: Leases, add_job: AddJob) -> None:
    job_id = add_job().id
    leases.claim(job_id, 1, "w")
    asked = jobs.request_cancel(job_id)
    assert (asked.status, asked.cancel_requested) == (JobStatus.RUNNING, True)
    assert jobs.request_cancel(job_id) == asked


def test_canceling_a_finished_job_changes_nothing(
    jobs: JobRecords, leases: Leases, add_job: AddJob, score: ScoreDocument
) -> None:
    job_id = add_job().id
    leases.claim(job_id, 1, "w")
    leases.succeed(job_id, 1, score)
    finished = jobs.versioned(job_id)
    assert jobs.request_cancel(job_id) == finished.job
    assert jobs.versioned(job_id) == finished
