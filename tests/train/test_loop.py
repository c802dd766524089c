"""The loop's parts: the guard, the clock, the writers, checkpoints."""

import gc
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medjax import faults
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
        for number, score in [(1, 0.2), (2, 0.9), (3, 0.3), (4, 0.4), (5, 0.5)]:
            now = make_state(float(number)).replace(step=jnp.int32(number))
            checkpoint.save(saved, now, {"nonfinite": [], "seconds": number}, score=score)
        saved.wait_until_finished()
        assert sorted(saved.all_steps()) == [2, 4, 5]
        assert saved.best_step() == 2
        found, facts = checkpoint.restore(saved, make_state(0.0))
        assert int(found.step) == 5
        assert facts == {"nonfinite": [], "seconds": 5}
        np.testing.assert_array_equal(found.params["w"], np.full(3, 5.0))
        found, _ = checkpoint.restore(saved, make_state(0.0), 2)
        np.testing.assert_array_equal(state.weights(found)["w"], np.full(3, 2.0))


def changed(path):
    """One byte of the middle of a file is another."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut_short(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.fixture
def saved_twice(tmp_path):
    """A folder with the checkpoints 1 and 2, of a state large enough for a file of its own."""
    rule = optim.optimizer("adamw")
    values = jax.random.normal(jax.random.key(0), (40, 40))
    made = state.create({"w": values}, rule, horizon=9)
    with checkpoint.manager(tmp_path / "two") as saved:
        for number in (1, 2):
            checkpoint.save(saved, made.replace(step=jnp.int32(number)), {"at": number}, score=0.0)
        saved.wait_until_finished()
    return tmp_path / "two", made


def largest(folder):
    files = [path for path in folder.rglob("*") if path.is_file() and "commit" not in path.name]
    return max(files, key=lambda path: path.stat().st_size)


def resumed(folder, like):
    """What a run would go on from, and what is left to go on from later."""
    with checkpoint.manager(folder) as saved:
        found, facts = checkpoint.resume(saved, like)
        return found, facts, saved.all_steps()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("fault", [changed, cut_short])
@pytest.mark.parametrize("part", ["state", "facts", "crc32", "metrics"])
def test_a_damaged_checkpoint_is_put_aside_for_the_one_before(saved_twice, part, fault):
    folder, made = saved_twice
    fault(largest(folder / "2" / part))
    with pytest.warns(UserWarning, match="2: is damaged"):
        found, *rest = resumed(folder, made)
    assert rest == [{"at": 1}, [1]]
    assert (folder / "damaged-2").is_dir()
    with checkpoint.manager(folder) as saved:
        checkpoint.save(saved, found.replace(step=jnp.int32(2)), {"at": 3}, score=0.0)
        saved.wait_until_finished()
    assert resumed(folder, made)[1] == {"at": 3}
    gc.collect()  # what Orbax left of a failed reading


def test_one_that_is_judged_is_never_exchanged_for_another(saved_twice):
    folder, made = saved_twice
    changed(largest(folder / "2" / "state"))
    with checkpoint.manager(folder) as saved:
        with pytest.raises(UserError, match=r"2: is damaged or of another model \(it holds other"):
            checkpoint.restore(saved, made)
        assert sorted(saved.all_steps()) == [1, 2]


def test_where_none_can_be_read_nothing_is_put_aside(saved_twice):
    folder, made = saved_twice
    for number in "12":
        changed(largest(folder / number / "state"))
    with pytest.raises(UserError, match="2: is damaged"):
        resumed(folder, made)
    assert {path.name for path in folder.iterdir() if path.is_dir()} == {"1", "2"}


def test_a_full_disk_is_named_and_loses_nothing(saved_twice, monkeypatch):
    folder, made = saved_twice
    with checkpoint.manager(folder) as saved, monkeypatch.context() as patch:
        usage = shutil.disk_usage(folder)._replace(free=40 * 40 * 4)
        patch.setattr(shutil, "disk_usage", lambda path: usage)
        with pytest.raises(OSError, match="No space left") as caught:
            checkpoint.save(saved, made.replace(step=jnp.int32(3)), {}, score=0.0)
    assert f"{folder}: No space left on device; make room" in faults.explained(caught.value)
    assert resumed(folder, made)[1] == {"at": 2}


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
