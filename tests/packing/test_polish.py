import itertools

import numpy as np
import pytest
from scipy.optimize import linprog, minimize

from hyperface_jax.codes import kerdock
from hyperface_jax.packing.interior_point import MAX_EXACT, MAX_VARIABLES, polish

GOLDEN = (1 + 5**0.5) / 2


def unit(x):
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def perturbed(x, noise, seed=0):
    return unit(x + noise * np.random.default_rng(seed).normal(size=x.shape))


def exact_max(x, num_frozen=0):
    cosines = unit(x) @ unit(x).T
    cosines[:num_frozen, :num_frozen] = -2
    return cosines[np.triu_indices(len(x), 1)].max()


def simplex(num_points):
    _, _, rows = np.linalg.svd(np.eye(num_points) - 1 / num_points)
    return unit((np.eye(num_points) - 1 / num_points) @ rows[: num_points - 1].T)


def e8_roots():
    roots = [
        a * np.eye(8)[i] + b * np.eye(8)[j]
        for i, j in itertools.combinations(range(8), 2)
        for a, b in itertools.product((1, -1), repeat=2)
    ]
    halves = np.array(list(itertools.product((0.5, -0.5), repeat=8)))
    return unit(np.array(roots + list(halves[halves.prod(axis=1) > 0])))


def cell600():
    """Vertices: 8 + 16 of the 24-cell, and the even permutations of (+-phi, +-1, +-1/phi, 0) / 2."""
    even = [p for p in itertools.permutations(range(4)) if np.linalg.det(np.eye(4)[list(p)]) > 0]
    signs = itertools.product((1, -1), repeat=3)
    base = [np.array([a * GOLDEN, b, c / GOLDEN, 0]) / 2 for a, b, c in signs]
    halves = np.array(list(itertools.product((0.5, -0.5), repeat=4)))
    return np.concatenate([np.eye(4), -np.eye(4), halves, [b[list(p)] for b in base for p in even]])


def neighbors(code, cosine):
    """The derived code: neighbors of the first point, in the space orthogonal to it."""
    near = code[np.abs(code @ code[0] - cosine) < 1e-9]
    near = unit(near - cosine * code[0])
    _, values, rows = np.linalg.svd(near)
    return unit(near @ rows[: np.sum(values > 1e-9)].T)


def soft_max_descent(num_points, dim, seed, betas):
    """A float32 result of annealed soft-max descent, as the solvers hand it to polish."""

    def value_and_gradient(flat, beta):
        y = flat.reshape(num_points, dim)
        length = np.linalg.norm(y, axis=1, keepdims=True)
        y = y / length
        cosines = y @ y.T - 9 * np.eye(num_points)
        top = cosines.max()
        weights = np.exp(beta * (cosines - top))
        total = weights.sum()
        gradient = 2 * weights @ y / total
        gradient -= np.sum(gradient * y, axis=1, keepdims=True) * y
        return top + np.log(total) / beta, (gradient / length).ravel()

    x = unit(np.random.default_rng(seed).normal(size=(num_points, dim)))
    for beta in betas:
        found = minimize(value_and_gradient, x.ravel(), (beta,), jac=True, method="L-BFGS-B")
        x = unit(found.x.reshape(num_points, dim))
    return x.astype(np.float32)


def best_of_starts(num_points, dim, betas):
    results = [polish(soft_max_descent(num_points, dim, seed, betas)) for seed in range(3)]
    return min(results, key=lambda result: result.max_cosine)


def first_order_decrease(x, num_frozen=0, radius=1e-3):
    """Decrease of the linearised maximum over all moves of at most ``radius`` a coordinate (an LP)."""
    num_points, dim = x.shape
    bases = [np.linalg.svd(row[None])[2][1:] for row in x]
    cosines = x @ x.T
    pairs = [
        (i, j) for i, j in zip(*np.triu_indices(num_points, 1), strict=True) if j >= num_frozen
    ]
    matrix = np.zeros((len(pairs), num_points * (dim - 1) + 1))
    for row, (i, j) in zip(matrix, pairs, strict=True):
        for moving, fixed in ((i, j), (j, i)):
            if moving >= num_frozen:
                row[moving * (dim - 1) : (moving + 1) * (dim - 1)] = bases[moving] @ x[fixed]
    matrix[:, -1] = -1
    values = np.array([cosines[pair] for pair in pairs])
    top = values.max()
    limits = [(-radius, radius)] * (matrix.shape[1] - 1) + [(None, None)]
    cost = np.eye(matrix.shape[1])[-1]
    return -linprog(cost, matrix, top - values, bounds=limits, method="highs").fun


E8 = e8_roots()
CODES = {
    "pentagon": (
        np.exp(2j * np.pi * np.arange(5) / 5).view(float).reshape(5, 2),
        np.cos(0.4 * np.pi),
        5,
    ),
    "simplex": (simplex(6), -1 / 5, 15),
    "simplex in a larger space": (np.pad(simplex(4), ((0, 0), (0, 3))), -1 / 3, 6),
    "orthoplex": (np.concatenate([np.eye(5), -np.eye(5)]), 0.0, 40),
    "icosahedron": (neighbors(cell600(), GOLDEN / 2), 5**-0.5, 30),
    "27 lines": (neighbors(neighbors(E8, 0.5), 1 / 3), 1 / 4, 216),
    "56": (neighbors(E8, 0.5), 1 / 3, 756),
    "600-cell": (cell600(), GOLDEN / 2, 720),
}


@pytest.mark.parametrize("noise", [1e-3, 1e-4, 1e-6])
@pytest.mark.parametrize("name", CODES)
def test_returns_to_the_known_optimum(name, noise):
    code, cosine, num_contacts = CODES[name]
    start = perturbed(code, noise)
    assert exact_max(start) > cosine + 1e-8
    result = polish(start)
    assert result.max_cosine == pytest.approx(cosine, abs=1e-13)
    assert result.num_contacts == num_contacts
    assert result.converged
    assert result.residual < 1e-6
    assert np.linalg.norm(result.x, axis=1) == pytest.approx(np.ones(len(code)), abs=1e-15)
    assert exact_max(result.x) == pytest.approx(result.max_cosine, abs=1e-15)


def test_e8_with_four_times_more_contacts_than_freedoms():
    result = polish(perturbed(E8, 1e-3))
    assert result.max_cosine == pytest.approx(0.5, abs=1e-13)
    assert (result.num_contacts, result.converged) == (6720, True)


def test_the_method_of_multipliers_finds_e8_to_the_last_digits():
    result = polish(perturbed(E8, 1e-3), exact=False)
    assert result.max_cosine == pytest.approx(0.5, abs=1e-13)
    assert (result.num_contacts, result.converged) == (6720, True)


def test_a_code_too_large_for_newton_steps_is_found_to_the_last_digits():
    code = kerdock(4).with_basis()
    start = perturbed(np.asarray(code.block(0, 288), np.float64), 1e-3)
    assert MAX_EXACT < 288 * 15
    result = polish(start)
    assert result.max_cosine == pytest.approx(1 / 4, abs=1e-11)
    assert result.converged


@pytest.mark.parametrize("num_frozen", [0, 30])
def test_the_method_of_multipliers_comes_close_to_newton_steps(num_frozen):
    start = soft_max_descent(60, 6, 0, (20, 60, 200))
    fine = polish(start, num_frozen=num_frozen)
    coarse = polish(start, num_frozen=num_frozen, exact=False)
    before = exact_max(start.astype(float), num_frozen)
    assert coarse.max_cosine == pytest.approx(exact_max(coarse.x, num_frozen), abs=1e-15)
    assert coarse.max_cosine - fine.max_cosine < 0.2 * (before - fine.max_cosine)
    assert np.array_equal(coarse.x[:num_frozen], start[:num_frozen])


@pytest.mark.parametrize(
    ("num_points", "dim", "betas", "cosine", "accuracy"),
    [
        (7, 3, (20, 200), 0.21013831273060307, 1e-12),
        (24, 3, (20, 60, 200), 0.7230784686827383, 1e-9),  # the record's own digits end there
        (16, 5, (20, 60, 200), 1 / 5, 1e-12),
        (120, 4, (20, 60, 200), GOLDEN / 2, 1e-12),
    ],
)
def test_soft_max_descent_from_random_reaches_the_record(num_points, dim, betas, cosine, accuracy):
    result = best_of_starts(num_points, dim, betas)
    assert result.max_cosine == pytest.approx(cosine, abs=accuracy)
    assert result.converged


def test_19_points_keep_a_rattler():
    result = best_of_starts(19, 3, (200,))
    assert result.max_cosine == pytest.approx(0.6731168876855458, abs=1e-9)
    cosines = result.x @ result.x.T - 2 * np.eye(19)
    rattlers = np.sum(cosines.max(axis=1) < result.max_cosine - 1e-3)
    assert rattlers == 1
    # 18 jammed points, 36 coordinates, 3 rotations: a vertex has 36 - 3 + 1 contacts
    assert result.num_contacts == 34
    assert result.converged


@pytest.mark.parametrize(
    ("num_points", "dim", "seed"), [(9, 6, 0), (20, 12, 0), (25, 5, 1), (36, 9, 0), (130, 3, 0)]
)
def test_no_first_order_move_improves_a_disordered_packing(num_points, dim, seed):
    start = soft_max_descent(num_points, dim, seed, (20, 60, 200))
    result = polish(start)
    assert result.converged
    assert first_order_decrease(unit(start.astype(float))) > 1e-6
    assert first_order_decrease(result.x) < 1e-9


def test_contacts_of_a_disordered_packing_leave_no_freedom():
    result = polish(soft_max_descent(36, 9, 0, (20, 60, 200)))
    assert result.num_contacts >= 36 * 8 - 9 * 8 // 2 + 1


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_frozen_rows_do_not_move(dtype):
    start = soft_max_descent(25, 4, 0, (20, 200)).astype(dtype)
    start[1] = start[0]  # a pair of frozen rows is no part of the objective
    result = polish(start, num_frozen=8)
    assert np.array_equal(result.x[:8], start[:8])
    assert not np.array_equal(result.x[8:], start[8:])
    assert result.max_cosine == pytest.approx(exact_max(result.x, 8), abs=1e-15)
    assert result.max_cosine < exact_max(start.astype(float), 8) - 1e-6
    assert result.converged
    assert first_order_decrease(unit(result.x), 8) < 1e-9


def test_frozen_points_and_one_free_point_find_the_deep_hole():
    result = polish(perturbed(np.concatenate([np.eye(3), -np.ones((1, 3))]), 0), num_frozen=3)
    assert result.max_cosine == pytest.approx(-(3**-0.5), abs=1e-13)
    start = np.concatenate([np.eye(3), unit(np.array([[-1.0, -0.9, -1.1]]))])
    result = polish(start, num_frozen=3)
    assert result.max_cosine == pytest.approx(-(3**-0.5), abs=1e-13)
    assert result.num_contacts == 3


@pytest.mark.parametrize("seed", range(6))
def test_is_never_worse_than_its_input(seed):
    rng = np.random.default_rng(seed)
    start = unit(rng.normal(size=(15, 4)))
    for steps in (1, 3):
        result = polish(start, max_iterations=steps)
        assert result.iterations == steps
        assert not result.converged
        assert result.max_cosine <= exact_max(start)
        assert exact_max(result.x) <= exact_max(start)


@pytest.mark.parametrize("name", ["simplex", "orthoplex", "27 lines", "600-cell"])
def test_an_optimum_stays_one(name):
    code, cosine, _ = CODES[name]
    result = polish(code)
    assert result.max_cosine <= exact_max(code)
    assert result.max_cosine == pytest.approx(cosine, abs=1e-15)
    assert result.converged


def test_tolerance_trades_steps_for_digits():
    start = soft_max_descent(30, 4, 0, (20, 200))
    fine, coarse = polish(start), polish(start, tolerance=1e-5)
    assert coarse.iterations < fine.iterations
    assert 1e-13 < coarse.max_cosine - fine.max_cosine < 1e-5


def test_input_is_not_written_to():
    start = perturbed(CODES["icosahedron"][0], 1e-3)
    copy = start.copy()
    polish(start)
    assert np.array_equal(start, copy)


@pytest.mark.parametrize(
    ("x", "settings", "message"),
    [
        (np.ones(3), {}, r"^x must be \[n, d\]"),
        (np.ones((1, 3)), {}, r"^x must be \[n, d\]"),
        (np.ones((4, 1)), {}, r"^x must be \[n, d\]"),
        (np.ones((4, 3)), {}, r"^x must have finite unit rows"),
        (np.full((4, 3), np.nan), {}, r"^x must have finite unit rows"),
        (np.eye(3)[[0, 1, 1]], {}, r"^x has two equal rows"),
        (np.eye(3), {"num_frozen": 3}, r"^num_frozen must be from 0 to 2"),
        (np.eye(3), {"num_frozen": -1}, r"^num_frozen must be from 0 to 2"),
        (np.eye(3), {"max_iterations": 0}, r"^max_iterations must be at least 1"),
        (np.eye(3), {"tolerance": 1e-14}, r"^tolerance must be at least 1e-13"),
        (np.eye(150), {}, rf"^x has 22350 free coordinates.* {MAX_VARIABLES}"),
    ],
)
def test_rejects_what_it_cannot_polish(x, settings, message):
    with pytest.raises(ValueError, match=message):
        polish(x, **settings)


def test_the_size_limit_counts_free_points_only():
    start = unit(np.eye(150) + 1e-3 * np.random.default_rng(0).normal(size=(150, 150)))
    assert polish(start, num_frozen=149, max_iterations=5).iterations == 5


@pytest.mark.parametrize("part", ["_relaxed", "central_path"])
def test_blas_has_one_thread_meanwhile(monkeypatch, part):
    """Threads that wait for each other are slow beside busy processes."""
    from threadpoolctl import threadpool_info, threadpool_limits

    from hyperface_jax.packing import interior_point

    def threads():
        libraries = [found for found in threadpool_info() if found["user_api"] == "blas"]
        assert any("numpy" in found["filepath"] for found in libraries)
        return [found["num_threads"] for found in libraries]

    function, seen = getattr(interior_point, part), []

    def note(*args, **settings):
        seen.extend(threads())
        return function(*args, **settings)

    monkeypatch.setattr(interior_point, part, note)
    x = unit(np.random.default_rng(0).normal(size=(14, 4)))
    with threadpool_limits(2, "blas"):
        before = threads()
        polish(x, exact=part == "central_path")
        assert threads() == before
    assert set(seen) == {1} < {1, *before}
