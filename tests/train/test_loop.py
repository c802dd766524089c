"""The loop's parts: the guard, the clock, the writers, checkpoints."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medjax.errors import UserError
from medjax.train import checkpoint, loop, optim, state
from medjax.train.writers import Writers, read_rows


def make_state(value, ema=True):
    rule = optim.optimizer("adamw")
    return state.create({"w": jnp.full((3,), value)}, rule, horizon=9, ema=ema)


def test_the_watch_bears_a_few_bad_steps_and_then_names_the_cases():
    watch = loop.Watch(["anna", "bert", "carl"], allowed=2)
    batch = {"case": np.array([2, 0, 2])}
    watch.look(1, {"finite": 1.0}, batch)
    watch.look(2, {"finite": 0.0}, batch)
    watch.look(3, {"finite": 0.0}, batch)
    with pytest.raises(UserError, match="step 4: anna, carl"):
        watch.look(4, {"finite": 0.0}, batch)


def test_steps_in_leaves_room_for_validation():
    assert loop.steps_in(100.0, step=1.0, validation=0.0, validations=10) == 97
    assert loop.steps_in(100.0, step=1.0, validation=4.7, validations=10) == 50
    assert loop.steps_in(1.0, step=9.0, validation=0.0, validations=1) == 1


def test_rows_after_the_resumed_step_are_written_again(tmp_path):
    with Writers(tmp_path, tensorboard=False) as writers:
        for number in range(1, 6):
            writers.write(number, {"loss": 1 / number, "odd": float("nan")})
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 6, "lo')  # a kill cut the line short
    with Writers(tmp_path, step=3, tensorboard=False) as writers:
        writers.write(4, {"loss": 7.0})
    rows = read_rows(tmp_path / "metrics.jsonl")
    assert [row["step"] for row in rows] == [1, 2, 3, 4]
    assert rows[3]["loss"] == 7.0
    assert rows[0]["odd"] is None
    json.loads((tmp_path / "metrics.jsonl").read_text("utf-8").splitlines()[0])


def test_last_and_best_are_kept_and_come_back(tmp_path):
    with checkpoint.manager(tmp_path) as saved:
        for number, score in [(1, 0.2), (2, 0.9), (3, 0.4), (4, 0.5)]:
            now = make_state(float(number)).replace(step=jnp.int32(number))
            checkpoint.save(saved, now, {"nonfinite": [], "seconds": number}, score=score)
        saved.wait_until_finished()
        assert sorted(saved.all_steps()) == [2, 4]
        assert saved.best_step() == 2
        found, facts = checkpoint.restore(saved, make_state(0.0))
        assert int(found.step) == 4
        assert facts["seconds"] == 4
        np.testing.assert_array_equal(found.params["w"], np.full(3, 4.0))
        found, _ = checkpoint.restore(saved, make_state(0.0), 2)
        np.testing.assert_array_equal(state.weights(found)["w"], np.full(3, 2.0))


def test_no_or_another_models_checkpoint_is_the_users_to_mend(tmp_path):
    with checkpoint.manager(tmp_path) as saved:
        with pytest.raises(UserError, match="no checkpoint"):
            checkpoint.restore(saved, make_state(0.0))
        checkpoint.save(saved, make_state(1.0).replace(step=jnp.int32(1)), {}, score=0.0)
        saved.wait_until_finished()
        rule = optim.optimizer("adamw")
        other = state.create({"v": jnp.zeros((4, 2))}, rule, horizon=9)
        with pytest.raises(UserError, match="another model"):
            checkpoint.restore(saved, other)


def test_a_state_owns_its_buffers():
    params = {"w": jnp.zeros(3)}
    made = state.create(params, optim.optimizer("sgd"), horizon=1)
    jax.tree.map(lambda a: a.delete(), made)
    assert not params["w"].is_deleted()
