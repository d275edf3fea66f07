from collections.abc import Iterator

import numpy as np
import pytest
import torch

from consilience.errors import InvalidRequest
from consilience.numerics.regression.mlp import Scale, TrainedMap, TrainingOptions, TrainingPairs, train_mlp
from consilience.numerics.rows.prepared import ArrayRows

N, P, Q = 500, 6, 4
OPTIONS = TrainingOptions(hidden=16, epochs=12, patience=12, batch=64, learning_rate=3e-3, seed=5)


def draw_pairs() -> TrainingPairs:
    rng = np.random.default_rng(0)
    x = (rng.normal(size=(N, P)) + 2).astype(np.float32)
    y = np.tanh(3 * (x - 2) @ rng.normal(size=(P, Q))).astype(np.float32) / 10
    scales = tuple(Scale(side.mean(axis=0, dtype=float), float(side.std())) for side in (x, y))
    places = rng.permutation(N)
    return TrainingPairs(ArrayRows(x), ArrayRows(y), (scales[0], scales[1]), np.sort(places[50:]), np.sort(places[:50]))


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Such small steps are slower on several."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def ignore_report(done: int, total: int) -> None:
    pass


def run(pairs: TrainingPairs, options: TrainingOptions = OPTIONS) -> TrainedMap:
    return train_mlp(pairs, options, ignore_report)


def test_the_weights_are_those_of_a_plain_loop_of_torch() -> None:
    pairs = draw_pairs()
    found = run(pairs)
    torch.manual_seed(OPTIONS.seed)
    model = torch.nn.Sequential(torch.nn.Linear(P, 16), torch.nn.GELU(), torch.nn.Linear(16, Q))
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3)
    rng = np.random.default_rng(OPTIONS.seed)
    x, y = pairs.take(pairs.train_rows)
    losses = []
    for _ in range(found.epoch):
        assert rng.permutation(1).tolist() == [0]
        for batch in torch.from_numpy(rng.permutation(len(x))).split(64):
            optimiser.zero_grad()
            loss = ((model(x[batch]) - y[batch]) ** 2).mean()
            loss.backward()
            optimiser.step()
        with torch.no_grad():
            seen, wanted = pairs.take(pairs.validation_rows)
            losses.append(float(((model(seen) - wanted) ** 2).mean()))
    assert found.loss == pytest.approx(losses[-1], rel=1e-5)
    with torch.no_grad():
        scaled = model(pairs.scales[0].standardise(pairs.a.array)).numpy()
    expected = scaled * pairs.scales[1].sd + pairs.scales[1].mean
    assert found.transform.apply(pairs.a.array) == pytest.approx(expected, abs=1e-5)


def test_an_mlp_fits_a_nonlinear_relation() -> None:
    pairs = draw_pairs()
    found = run(pairs, TrainingOptions(32, 60, 60, 32, 1e-2, 0))
    x, y = pairs.take(pairs.train_rows)
    weights = np.linalg.lstsq(x.numpy(), y.numpy(), rcond=None)[0]
    seen, wanted = (side.numpy() for side in pairs.take(pairs.validation_rows))
    assert found.loss < 0.5 * float(((seen @ weights - wanted) ** 2).mean())


def test_training_stops_when_the_validation_loss_stops_falling() -> None:
    found = run(draw_pairs(), TrainingOptions(16, 10_000, 2, 32, 2e-2, 0))
    assert found.epochs_run == found.epoch + 2


def test_the_same_seed_gives_the_same_map_and_torchs_state_is_unchanged() -> None:
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    first, again, other = (
        run(draw_pairs()),
        run(draw_pairs()),
        run(draw_pairs(), TrainingOptions(16, 12, 12, 64, 3e-3, 6)),
    )
    assert torch.equal(torch.rand(3), expected)
    assert np.array_equal(first.transform.steps[0].weights, again.transform.steps[0].weights)
    assert not np.array_equal(first.transform.steps[0].weights, other.transform.steps[0].weights)


def test_only_training_and_validation_rows_are_read() -> None:
    pairs = draw_pairs()
    fewer = TrainingPairs(pairs.a, pairs.b, pairs.scales, pairs.train_rows[:300], pairs.validation_rows)
    before = run(fewer)
    pairs.a.array[pairs.train_rows[300:]] = np.nan
    assert np.array_equal(run(fewer).transform.steps[0].weights, before.transform.steps[0].weights)


def test_diverging_training_is_an_error() -> None:
    pairs = draw_pairs()
    pairs.b.array[:] = 1e25
    with pytest.raises(InvalidRequest, match="diverged"):
        run(pairs, TrainingOptions(16, 5, 5, 64, 1.0, 0))


def test_progress_is_reported_and_an_interruption_is_propagated() -> None:
    reported: list[tuple[int, int]] = []

    def report(done: int, total: int) -> None:
        reported.append((done, total))
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_mlp(draw_pairs(), OPTIONS, report)
    assert reported == [(1, 12), (2, 12), (3, 12)]
