"""Every edge between the states of a job, tried by its holder and by someone who no longer is."""

import threading
from collections.abc import Callable

import pytest

from consilience.contract.jobs import Job, JobStatus, Progress
from consilience.contract.scores import ScoreDocument
from consilience.errors import JobCrashed, TooFewRows
from consilience.stores.jobs import JobRecords
from consilience.stores.leases import ActiveJob, HeartbeatReply, Leases, describe_failure

DIED = describe_failure(JobCrashed("It died.", value="SIGKILL"))


@pytest.fixture
def queued(add_job: Callable[..., Job]) -> str:
    return add_job().id


@pytest.fixture
def running(leases: Leases, queued: str) -> str:
    leases.claim(queued, 1, "first worker")
    return queued


def endings(job: Job) -> list[str | None]:
    return [run.ended for run in job.runs]


def test_a_claim_makes_the_job_run(leases: Leases, queued: str) -> None:
    job = leases.claim(queued, 1, "a worker")
    assert job is not None
    assert (job.status, job.runs[0].worker, job.runs[0].delivery) == (JobStatus.RUNNING, "a worker", 1)
    assert job.started_at == job.runs[0].started_at


def test_only_one_of_many_claims_gets_the_job(leases: Leases, queued: str) -> None:
    claims: list[Job | None] = []
    threads = [threading.Thread(target=lambda: claims.append(leases.claim(queued, 1, "w"))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len([job for job in claims if job]) == 1


def test_a_stale_delivery_gets_nothing(leases: Leases, queued: str) -> None:
    assert leases.redeliver([(queued, 1)]) == [(queued, 2)]
    assert leases.claim(queued, 1, "w") is None
    assert leases.claim(queued, 2, "w") is not None


def test_a_beat_keeps_the_lease_and_learns_of_a_cancel(leases: Leases, jobs: JobRecords, running: str) -> None:
    assert leases.heartbeat(running, 1) is HeartbeatReply.CONTINUE
    assert leases.find_active() == [ActiveJob(running, JobStatus.RUNNING, 1, 1)]
    jobs.request_cancel(running)
    assert leases.heartbeat(running, 1) is HeartbeatReply.CANCEL


def test_a_process_that_has_not_claimed_yet_is_not_fenced(leases: Leases, queued: str) -> None:
    assert leases.heartbeat(queued, 1) is HeartbeatReply.CONTINUE
    assert leases.heartbeat(queued, 2) is HeartbeatReply.FENCED


def test_a_claim_between_two_looks_of_a_beat_is_not_fenced(leases: Leases, add_job: Callable[..., Job]) -> None:
    for job_id in [add_job().id for _ in range(25)]:
        claim = threading.Thread(target=leases.claim, args=(job_id, 1, "w"))
        claim.start()
        beats = [leases.heartbeat(job_id, 1)]
        while claim.is_alive():
            beats.append(leases.heartbeat(job_id, 1))
        assert set(beats) == {HeartbeatReply.CONTINUE}


def test_a_cancel_beside_a_crash_is_never_forgotten(
    leases: Leases, jobs: JobRecords, add_job: Callable[..., Job]
) -> None:
    for job_id in [add_job().id for _ in range(25)]:
        leases.claim(job_id, 1, "w")
        crash = threading.Thread(target=leases.crashed, args=(job_id, 1, DIED, 3))
        crash.start()
        jobs.request_cancel(job_id)
        crash.join()
        assert jobs.get(job_id).status is JobStatus.CANCELED


def test_a_result_is_committed_once(leases: Leases, jobs: JobRecords, running: str, score: ScoreDocument) -> None:
    last = Progress(stage="scoring", done=2, total=2)
    assert leases.succeed(running, 1, score, last)
    assert not leases.succeed(running, 1, score)
    assert not leases.fail(running, 1, DIED)
    assert not leases.canceled(running, 1)
    assert leases.heartbeat(running, 1) is HeartbeatReply.FENCED
    job = jobs.get(running)
    assert (job.status, job.result, job.progress, job.error) == (JobStatus.SUCCEEDED, score, last, None)
    assert (endings(job), job.runs[0].ended_at) == (["succeeded"], job.runs[0].ended_at)


def test_a_result_that_comes_before_the_cancel_took_effect_stays(
    leases: Leases, jobs: JobRecords, running: str, score: ScoreDocument
) -> None:
    jobs.request_cancel(running)
    assert leases.succeed(running, 1, score)
    assert (jobs.get(running).status, jobs.get(running).cancel_requested) == (JobStatus.SUCCEEDED, False)


def test_a_failure_keeps_the_whole_problem(leases: Leases, jobs: JobRecords, running: str) -> None:
    problem = describe_failure(TooFewRows("There are 3 rows.", value=3, limit=4, hint="Add one.", pointer="/a"))
    assert leases.fail(running, 1, problem)
    job = jobs.get(running)
    assert (job.status, job.error, endings(job)) == (JobStatus.FAILED, problem, ["failed"])


def test_a_crash_queues_the_job_again(leases: Leases, jobs: JobRecords, running: str) -> None:
    leases.progress(running, 1, Progress(stage="scoring", done=1, total=2))
    assert leases.crashed(running, 1, DIED, 3) == 2
    job = jobs.get(running)
    assert (job.status, job.started_at, job.progress, endings(job)) == (JobStatus.QUEUED, None, None, ["crashed"])
    assert leases.claim(running, 2, "w") is not None


def test_the_last_crash_fails_the_job(leases: Leases, jobs: JobRecords, queued: str) -> None:
    for delivery in (1, 2, 3):
        leases.claim(queued, delivery, "w")
        again = leases.crashed(queued, delivery, DIED, 3)
        assert again == (delivery + 1 if delivery < 3 else None)
    job = jobs.get(queued)
    assert (job.status, job.error, endings(job)) == (JobStatus.FAILED, DIED, ["crashed"] * 3)


def test_a_process_that_dies_before_its_claim_counts_as_a_crash(leases: Leases, jobs: JobRecords, queued: str) -> None:
    assert leases.crashed(queued, 1, DIED, 2) == 2
    assert leases.crashed(queued, 2, DIED, 2) is None
    assert jobs.get(queued).status is JobStatus.FAILED


def test_a_crash_of_a_job_that_should_stop_ends_it(leases: Leases, jobs: JobRecords, running: str) -> None:
    jobs.request_cancel(running)
    assert leases.crashed(running, 1, DIED, 3) is None
    assert (jobs.get(running).status, endings(jobs.get(running))) == (JobStatus.CANCELED, ["canceled"])


def test_messages_of_jobs_that_have_changed_are_not_redelivered(
    leases: Leases, jobs: JobRecords, add_job: Callable[..., Job]
) -> None:
    ids = [add_job().id for _ in range(4)]
    leases.claim(ids[1], 1, "w")
    jobs.request_cancel(ids[2])

    assert leases.redeliver([(ids[3], 1), *((each, 1) for each in ids[:3]), (ids[0], 7)]) == [(ids[3], 2), (ids[0], 2)]
    assert leases.redeliver([(ids[0], 1)]) == []


def test_redeliveries_and_handing_back_never_fail_a_job(leases: Leases, jobs: JobRecords, queued: str) -> None:
    delivery = 1
    for _ in range(5):
        assert leases.redeliver([(queued, delivery)]) == [(queued, delivery + 1)]
        leases.claim(queued, delivery + 1, "w")
        assert leases.hand_back(queued, delivery + 1) == delivery + 2
        delivery += 2
    assert endings(jobs.get(queued)) == ["handed-back"] * 5
    leases.claim(queued, delivery, "w")
    assert leases.crashed(queued, delivery, DIED, 2) is not None


def test_handing_back_a_job_that_should_stop_ends_it(leases: Leases, jobs: JobRecords, running: str) -> None:
    jobs.request_cancel(running)
    assert leases.hand_back(running, 1) is None
    assert (jobs.get(running).status, endings(jobs.get(running))) == (JobStatus.CANCELED, ["canceled"])


def test_a_lost_lease_queues_the_job_again_and_fences_its_holder(
    leases: Leases, jobs: JobRecords, running: str, score: ScoreDocument
) -> None:
    (standing,) = leases.find_active()
    assert leases.lost(standing, DIED, 3) == 2
    assert endings(jobs.get(running)) == ["lost"]
    assert leases.heartbeat(running, 1) is HeartbeatReply.FENCED
    assert not leases.progress(running, 1, Progress(stage="late", done=1, total=1))
    assert leases.crashed(running, 1, DIED, 3) is None
    assert leases.hand_back(running, 1) is None
    leases.claim(running, 2, "second worker")
    assert not leases.succeed(running, 1, score)
    assert not leases.fail(running, 1, DIED)
    assert not leases.canceled(running, 1)
    assert leases.succeed(running, 2, score)
    assert endings(jobs.get(running)) == ["lost", "succeeded"]


def test_a_worker_that_was_heard_meanwhile_has_lost_nothing(leases: Leases, jobs: JobRecords, running: str) -> None:
    (standing,) = leases.find_active()
    leases.heartbeat(running, 1)
    assert leases.lost(standing, DIED, 3) is None
    assert jobs.get(running).status is JobStatus.RUNNING


def test_only_one_of_many_reconcilers_requeues_a_job(leases: Leases, running: str) -> None:
    (standing,) = leases.find_active()
    taken: list[int | None] = []
    threads = [threading.Thread(target=lambda: taken.append(leases.lost(standing, DIED, 3))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken, key=str) == [2, None, None, None, None, None]


def test_finished_jobs_are_not_among_the_unfinished(
    leases: Leases, jobs: JobRecords, add_job: Callable[..., Job], running: str
) -> None:
    jobs.request_cancel(add_job().id)
    waiting = add_job().id
    assert sorted(leases.find_active()) == sorted(
        [ActiveJob(running, JobStatus.RUNNING, 1, 0), ActiveJob(waiting, JobStatus.QUEUED, 1, 0)]
    )


def test_a_failure_that_the_caller_can_mend_is_told_apart() -> None:
    assert describe_failure(TooFewRows("There are 3 rows.")).status == 422
    assert describe_failure(JobCrashed("It died.")).status == 500
