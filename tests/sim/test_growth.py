import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medjax.sim.growth import CHECKED, Necrosis, grow, tissue_diffusivity

run = jax.jit(grow, static_argnames=("spacing", "most_steps"))
STARVING = Necrosis(death=0.1, hunger=0.6, uptake=0.2, supply=0.2)
N = 16


def ball(radius, n=N):
    axis = jnp.arange(n) - (n - 1) / 2
    square = axis[:, None, None] ** 2 + axis[None, :, None] ** 2 + axis[None, None] ** 2
    return (square < radius**2).astype(jnp.float32)


def uneven(seed=0, n=N):
    """Two chambers of random diffusivity between which a wall stands."""
    drawn = np.random.default_rng(seed).uniform(0.1, 1, (n, n, n)).astype(np.float32)
    drawn[n // 2] = 0
    drawn[:2, :3] = 0
    return jnp.asarray(drawn)


def reference(diffusivity, rate, seeds, necrosis, spacing, step, steps):
    """The equations in a plain loop over voxels and faces, in double precision."""
    diffusivity, rate = np.float64(diffusivity), np.float64(rate)
    tissue = diffusivity > 0
    living, dead = np.float64(seeds) * tissue, np.zeros(diffusivity.shape)
    nutrient = np.ones(diffusivity.shape)
    faces = []
    for axis in range(3):
        for here in np.ndindex(diffusivity.shape):
            there = tuple(i + (a == axis) for a, i in enumerate(here))
            if there[axis] < diffusivity.shape[axis] and tissue[here] and tissue[there]:
                mean = 2 / (1 / diffusivity[here] + 1 / diffusivity[there])
                faces.append((here, there, mean / spacing**2))
    for _ in range(steps):
        change, fed = np.zeros(living.shape), np.zeros(living.shape)
        for here, there, face in faces:
            moving = living[there] * (1 - dead[here]) - living[here] * (1 - dead[there])
            change[here] += face * moving
            change[there] -= face * moving
            eaten = necrosis.supply / spacing**2 * (nutrient[there] - nutrient[here])
            fed[here] += eaten
            fed[there] -= eaten
        starved = 1 / (1 + np.exp(-(necrosis.hunger - nutrient) / 0.05))
        dying = necrosis.death * living * starved
        born = rate * nutrient * living * (1 - living - dead)
        eaten = necrosis.uptake * nutrient * living
        living = living + step * (change + born - dying)
        dead, nutrient = dead + step * dying, nutrient + step * (fed - eaten)
    return living, dead, nutrient


@pytest.mark.parametrize("necrosis", [None, Necrosis(), STARVING])
def test_it_is_the_equations_written_out(necrosis):
    diffusivity = uneven(n=7)
    rate = jnp.asarray(np.random.default_rng(1).uniform(0.05, 0.2, (7, 7, 7)), jnp.float32)
    seeds = 0.9 * ball(2.5, 7)
    made = run(diffusivity, rate, seeds, spacing=1.5, volume=1e9, necrosis=necrosis, most_steps=40)
    step = float(made.days) / 40
    assert 0.1 < step <= 0.8 * 1.5**2 / 6 / float(diffusivity.max()) * 1.0001
    slow = reference(diffusivity, rate, seeds, necrosis or Necrosis(), 1.5, step, 40)
    for found, expected in zip(made, slow, strict=False):
        np.testing.assert_allclose(found, expected, atol=1e-5)
    assert made.living.max() > 0.3
    assert (made.dead.max() > 0.05) == (necrosis is STARVING)


@pytest.mark.parametrize(
    ("diffusivity", "rate", "spacing"), [(1.0, 0.1, 1.0), (0.4, 0.05, 1.0), (0.65, 0.012, 2.0)]
)
def test_front_moves_at_fishers_speed(diffusivity, rate, spacing):
    """2 sqrt(D rate), less the slow way of reaching it: 1 - 3 / (4 rate t) (Bramson, 1978)."""
    shape = (260, 2, 3)
    seeds = jnp.zeros(shape).at[:4].set(1.0)
    places, times = [], []
    for end in (10, 30):
        made = run(
            jnp.full(shape, diffusivity),
            jnp.full(shape, rate),
            seeds,
            spacing=spacing,
            volume=jnp.inf,
            most_steps=10_000,
            most_days=end / rate,
        )
        assert (made.living[:, :1, :1] == made.living).all()
        line = np.asarray(made.living[:, 0, 0])
        assert (np.diff(line) <= 1e-6).all()
        assert line[-20:].max() < 1e-3  # it has not come to the end
        places.append(np.interp(-0.5, -line, np.arange(len(line)) * spacing))
        times.append(float(made.days))
    speed = np.diff(places)[0] / np.diff(times)[0]
    fisher = 2 * np.sqrt(diffusivity * rate)
    assert speed == pytest.approx(fisher, rel=0.15)
    assert speed == pytest.approx(fisher * (1 - 0.75 * np.log(3) / 20), rel=0.03)


def test_without_reaction_nothing_is_lost():
    diffusivity = uneven()
    seeds = jnp.asarray(np.random.default_rng(2).uniform(0, 1, (N, N, N)), jnp.float32)
    run_for = [
        run(diffusivity, jnp.zeros((N, N, N)), seeds, spacing=1.0, volume=1e9, most_steps=steps)
        for steps in (4, 2000)
    ]
    tissue = np.asarray(diffusivity) > 0
    for half in (np.s_[: N // 2], np.s_[N // 2 + 1 :]):  # the wall holds
        start = np.float64(seeds * tissue)[half].sum()
        for made in run_for:
            assert np.float64(made.living)[half].sum() == pytest.approx(start, rel=1e-5)
        mixed = np.asarray(run_for[1].living)[half][tissue[half]]
        np.testing.assert_allclose(mixed, start / tissue[half].sum(), rtol=0.02)
    assert run_for[0].living.max() <= seeds.max()
    assert float(run_for[0].living.std()) < float((seeds * tissue).std())
    assert not np.asarray(run_for[1].living)[~tissue].any()


@pytest.mark.parametrize("necrosis", [None, STARVING])
def test_no_tumour_where_nothing_diffuses(necrosis):
    diffusivity = uneven()
    seeds = jnp.ones((N, N, N)).at[N // 2 + 1 :].set(0)  # on walls too, but on one side alone
    made = run(
        diffusivity,
        jnp.full((N, N, N), 0.1),
        seeds,
        spacing=1.0,
        volume=1e9,
        necrosis=necrosis,
        most_steps=200,
    )
    walls = np.asarray(diffusivity) == 0
    for cells in (made.living, made.dead):
        assert not np.asarray(cells)[walls].any()
        assert not cells[N // 2 + 1 :].any()
    np.testing.assert_allclose(made.nutrient[N // 2 + 1 :], 1, rtol=1e-6)


@pytest.mark.parametrize("white", [0.05, 4.0])
@pytest.mark.parametrize("rate", [0.01, 0.8])
@pytest.mark.parametrize("fed", [True, False])
def test_extremes_stay_finite_and_within_bounds(white, rate, fed):
    """Cells are shares, P + N is at most 1, nutrient only falls; also long after it is full."""
    necrosis = None if fed else Necrosis(0.3 * rate, 0.5, 0.2 * rate, 0.2)
    made = run(
        white * ball(7.0),
        jnp.full((N, N, N), rate),
        0.8 * ball(2.0),
        spacing=2.0,
        volume=1e9,
        necrosis=necrosis,
        most_steps=1000,
    )
    for field in made:
        assert jnp.isfinite(field).all()
    assert made.living.min() >= 0
    assert made.dead.min() >= 0
    assert float((made.living + made.dead).max()) <= 1 + 1e-5
    assert made.nutrient.min() >= 0
    assert made.nutrient.max() <= 1 + 1e-5
    assert bool((made.dead > 0).any()) != fed
    assert fed == bool((made.nutrient == 1).all())
    if white * rate > 1:
        assert float((made.living + made.dead)[N // 2, N // 2, N // 2]) > 0.9


def test_cells_die_only_where_nutrient_fell():
    made = run(
        jnp.full((N, N, N), 0.1),
        jnp.full((N, N, N), 0.1),
        0.8 * ball(2.0),
        spacing=1.0,
        volume=1e9,
        necrosis=STARVING,
        most_days=40.0,
    )
    starved = np.asarray(made.nutrient) < STARVING.hunger + 0.2
    assert made.dead.max() > 0.2
    assert starved.any()
    assert not starved.all()
    assert np.asarray(made.dead)[~starved].max() < 0.05 * float(made.dead.max())
    dead = np.asarray(made.dead)
    middle, border = dead[N // 2, N // 2, N // 2], dead[0, 0, 0]
    assert middle == pytest.approx(dead.max(), rel=0.1)
    assert border < 0.1 * middle


def test_faster_death_leaves_more_dead_and_fewer_living():
    totals = []
    for death in (0.0, 0.02, 0.1):
        made = run(
            jnp.full((N, N, N), 0.4),
            jnp.full((N, N, N), 0.1),
            0.8 * ball(2.0),
            spacing=1.0,
            volume=1e9,
            necrosis=STARVING._replace(death=death),
            most_steps=200,
        )
        totals.append((float(made.living.sum()), float(made.dead.sum())))
    living, dead = zip(*totals, strict=True)
    assert living[0] > living[1] > living[2]
    assert 0 == dead[0] < dead[1] < dead[2]


@pytest.mark.parametrize("volume", [0.2, 1.0, 2.5])  # ml of 4.1
@pytest.mark.parametrize("visible", [0.15, 0.5])
def test_it_stops_at_the_volume_within_a_block_of_steps(volume, visible):
    def grown(volume, days):
        made = run(
            jnp.full((N, N, N), 0.5),
            jnp.full((N, N, N), 0.05),
            0.9 * ball(1.5),
            spacing=1.0,
            volume=volume,
            visible=visible,
            most_days=days,
        )
        return float(made.days), float((made.living + made.dead > visible).sum()) / 1000

    step = 0.8 / (6 * 0.5)
    days, reached = grown(volume, 1e9)
    assert reached >= volume
    assert days / step == pytest.approx(round(days / step / CHECKED) * CHECKED, rel=1e-3)
    before, less = grown(1e9, days - 4.5 * step)
    assert before == pytest.approx(days - CHECKED * step, rel=1e-3)
    assert less < volume


def test_nothing_grows_when_there_is_enough_or_nothing():
    arguments = (jnp.full((N, N, N), 0.5), jnp.full((N, N, N), 0.05))
    enough = run(*arguments, ball(3.0), spacing=1.0, volume=0.05)
    assert enough.days == 0
    np.testing.assert_array_equal(enough.living, ball(3.0))
    nothing = run(*arguments, jnp.zeros((N, N, N)), spacing=1.0, volume=1.0, most_steps=8)
    assert not nothing.living.any()


def test_diffusivity_in_grey_is_a_tenth_of_that_in_white():
    gm, wm = (
        jnp.asarray(share, jnp.float32).reshape(-1, 1, 1)
        for share in ([0, 1, 0.5, 0.3, 0.2, 0, 0.25], [1, 0, 0.5, 0.3, 0.2, 0, 0.25])
    )
    found = tissue_diffusivity(gm, wm, 0.65)[:, 0, 0]
    np.testing.assert_allclose(found[:4], 0.65 * np.array([1, 0.1, 0.55, 0.55]), rtol=1e-6)
    assert not found[4:].any()  # mostly fluid: a wall
