"""Lower bounds on the largest cosine of ``n`` unit vectors in ``R^d``, which no packing can beat.

Two theorems cover every size. Rankin's settles ``n <= 2 d`` exactly. Levenshtein's, an optimal linear
programming bound built from Jacobi polynomials, covers the rest and is attained by the sharp codes
(icosahedron, E8, Leech, ...). On the ordinary sphere, Fejes Toth's is better for 20 points or more, and
in four dimensions Boroczky's is for most sizes. For some sizes, proofs of their own give more:
:mod:`hyperface_jax.optima` lists them. :func:`tightest` picks the best. All computations are in float64.

References:
    R. A. Rankin, The closest packing of spherical caps in n dimensions, Glasgow Math. J. 2 (1955).
    L. Fejes Toth, Uber die Abschatzung des kurzesten Abstandes zweier Punkte eines auf einer
    Kugelflache liegenden Punktsystems, Jber. Deutsch. Math.-Verein. 53 (1943).
    K. Boroczky, Packing of spheres in spaces of constant curvature, Acta Math. Hungar. 32 (1978).
    V. I. Levenshtein, Universal bounds for codes and designs, Handbook of Coding Theory (1998).
    P. G. Boyvalenkov, P. D. Dragnev, D. P. Hardin, E. B. Saff, M. M. Stoyanova, Universal lower
    bounds for potential energy of spherical codes, Constr. Approx. 44 (2016), section 2.
"""

from __future__ import annotations

import math
import operator
from typing import NamedTuple

from hyperface_jax.errors import InputError
from hyperface_jax.optima import proven

_EQUAL = 1e-12


class Bound(NamedTuple):
    """A lower bound on the largest cosine, and the theorem it comes from.

    Attributes:
        value: Cosine that the closest pair of any configuration reaches or exceeds.
        name: ``"antipodal"``, ``"pigeonhole"``, ``"regular polygon"``, ``"simplex"``,
            ``"Rankin orthoplex"``, ``"Levenshtein"``, ``"Fejes Toth"`` or ``"Boroczky"``, of which
            all but the last three are attained for every size to which they apply; or the proof for a
            single size that bounds this one, such as
            ``"Cohn, de Laat and Leijenhorst 2024 (288 points, d = 16)"``.
    """

    value: float
    name: str


def rankin(num_points: int, dim: int) -> float:
    """Return Rankin's bound: ``-1/(n-1)`` for ``n <= d+1``, zero above.

    It is attained by the regular simplex up to ``n = d+1`` and by subsets of the orthoplex for
    ``d+2 <= n <= 2d``. Above ``2d``, zero is still valid (more points cannot be farther apart) but
    is never attained.

    Args:
        num_points: Number of unit vectors, at least 2.
        dim: Dimension of the ambient space, at least 1.

    Returns:
        A cosine.

    Raises:
        InputError: ``num_points`` or ``dim`` is too small.

    Examples:
        >>> rankin(4, 3), rankin(6, 3)
        (-0.3333333333333333, 0.0)
    """
    n, d = _validate(num_points, dim)
    return -1 / (n - 1) if n <= d + 1 else 0.0


def levenshtein(num_points: int, dim: int) -> float:
    """Return Levenshtein's bound: the ``s`` with ``L_m(d, s) = n`` for the order ``m`` that fits ``n``.

    With ``m = 2k - 1 + e``, ``e`` in ``{0, 1}``, ``a = (d-3)/2`` and Jacobi polynomials normalized
    to ``P(1) = 1``::

        L_m(d, s) = (1 - P_(k-1+e)^(a+1, a)(s) / P_k^(a, a+e)(s)) D(d, 2(k-1+e))

    Here ``D`` denotes the Delsarte-Goethals-Seidel sizes of tight designs. ``L_m`` increases from
    ``D(d, m)`` to ``D(d, m+1)`` on the interval between the largest zeros of ``P^(a+1, a)`` and
    ``P^(a+1, a+1)``. The sizes ``D`` are integers, so the order is chosen exactly, and the interval
    brackets the root. Below ``n = 2d + 1`` the bound holds, but :func:`rankin` is at least as good.

    The error is a few units in the last place, of either sign. A step of the root search costs
    ``O(k)``, with ``k`` about ``n^(1/(d-1))``. In all, this takes less than a millisecond except in
    dimension 3 (0.1 s at ``n = 1e9``).

    Args:
        num_points: Number of unit vectors, at least 2.
        dim: Dimension of the ambient space, at least 1.

    Returns:
        A cosine.

    Raises:
        InputError: ``num_points`` or ``dim`` is too small.

    Examples:
        >>> round(levenshtein(240, 8), 12), round(levenshtein(196560, 24), 12)
        (0.5, 0.5)
        >>> round(levenshtein(10_000, 512), 4)
        0.0238

    References:
        Boyvalenkov et al. (2016), equations (17) to (19).
    """
    from scipy.optimize import brentq

    n, d = _validate(num_points, dim)
    if d == 1:
        return -1.0 if n == 2 else 1.0
    if d == 2:
        return math.cos(2 * math.pi / n)  # every n is a tight design, D(2, n - 1) = n
    order = _order(n, d)
    lower, upper = _end_of_order(d, order - 1), _end_of_order(d, order)
    if n == _tight_design_size(d, order + 1):
        return upper

    def excess(s: float) -> float:
        return _max_points(d, order, s) / n - 1

    if excess(lower) >= 0:
        return lower
    if excess(upper) <= 0:
        return upper
    return float(brentq(excess, lower, upper, xtol=1e-16, rtol=1e-15))  # type: ignore[arg-type]


def fejes_toth(num_points: int) -> float:
    """Return Fejes Toth's bound in ``R^3``: ``(cot(w)^2 - 1) / 2`` with ``w = pi n / (6 (n - 2))``.

    It is attained for ``n = 3, 4, 6, 12`` and asymptotically. For ``n >= 20`` it is better than
    Levenshtein's.

    Args:
        num_points: Number of unit vectors in ``R^3``, at least 3.

    Returns:
        A cosine.

    Raises:
        InputError: ``num_points`` is too small.

    Examples:
        >>> round(fejes_toth(12), 12), round(fejes_toth(1000), 6)
        (0.4472135955, 0.992752)
    """
    n = operator.index(num_points)
    if n < 3:
        raise InputError(f"num_points must be at least 3 for this bound, got {n}")
    return (math.tan(math.pi * n / (6 * (n - 2))) ** -2 - 1) / 2


def boroczky(num_points: int) -> float:
    """Return Boroczky's bound in ``R^4``: caps are nowhere denser than in a regular simplex of centers.

    A regular spherical tetrahedron of edge ``l`` has the dihedral angle
    ``delta = arccos(cos(l) / (1 + 2 cos(l)))`` and a volume ``V`` with ``dV = 3 l d(delta)``
    (Schlafli). The bound is ``cos(l)`` for ``n = 2 pi (3 delta - pi) / V``. It is attained for n = 8 and
    n = 120 (the 600-cell).

    Args:
        num_points: Number of unit vectors in ``R^4``, at least 8.

    Returns:
        A cosine.

    Raises:
        InputError: ``num_points`` is too small.

    Cost: A few milliseconds.

    Examples:
        >>> round(boroczky(120), 12), round(boroczky(1000), 6)
        (0.809016994375, 0.952659)
    """
    from scipy.optimize import brentq

    n = operator.index(num_points)
    if n < 8:
        raise InputError(f"num_points must be at least 8 for this bound, got {n}")

    def excess(edge: float) -> float:
        solid_angle = 3 * _dihedral(math.cos(edge)) - math.pi
        return 2 * math.pi * solid_angle / _tetrahedron(edge) / n - 1

    flat = (12 * 2**0.5 * math.pi * (3 * math.acos(1 / 3) - math.pi) / n) ** (1 / 3)
    if excess(math.pi / 2) >= 0:
        return 0.0
    edge = float(brentq(excess, flat / 2, math.pi / 2, xtol=1e-16, rtol=1e-15))  # type: ignore[arg-type]
    return math.cos(edge)


def _dihedral(cosine: float) -> float:
    return math.acos(cosine / (1 + 2 * cosine))


def _tetrahedron(edge: float) -> float:
    """Return the volume of the regular spherical tetrahedron: the integral of ``3 l d(delta)``."""
    from scipy.integrate import quad

    def slope(length: float) -> float:
        c = math.cos(length)
        return 3 * length * math.sin(length) / ((1 + 2 * c) * math.sqrt((1 + c) * (1 + 3 * c)))

    return float(quad(slope, 0, edge, epsabs=0, epsrel=1e-13)[0])


def tightest(num_points: int, dim: int) -> Bound:
    """Return the best known lower bound on the largest cosine of ``n`` points in ``R^d``.

    It never falls as n grows, and never rises as d grows, up to rounding.

    Args:
        num_points: Number of unit vectors, at least 2.
        dim: Dimension of the ambient space, at least 1.

    Returns:
        The largest bound and its name. It is the exact optimum when ``n <= 2d`` or ``d <= 2``.

    Raises:
        InputError: ``num_points`` or ``dim`` is too small.

    Examples:
        >>> tightest(5, 4)
        Bound(value=-0.25, name='simplex')
        >>> tightest(10_000, 512).name
        'Levenshtein'
        >>> tightest(288, 16)
        Bound(value=0.25, name='Cohn, de Laat and Leijenhorst 2024 (288 points, d = 16)')
    """
    n, d = _validate(num_points, dim)
    if n == 2:
        return Bound(-1.0, "antipodal")
    if d == 1:
        return Bound(1.0, "pigeonhole")
    if n <= d + 1:
        return Bound(rankin(n, d), "simplex")
    if n <= 2 * d:
        return Bound(rankin(n, d), "Rankin orthoplex")
    if d == 2:
        return Bound(levenshtein(n, d), "regular polygon")
    bound = Bound(levenshtein(n, d), "Levenshtein")
    if d == 3:
        bound = max(bound, Bound(fejes_toth(n), "Fejes Toth"))
    if d == 4:
        bound = max(bound, Bound(boroczky(n), "Boroczky"))
    entry = proven(n, d)
    if entry is None or entry.value <= bound.value + _EQUAL:
        return bound
    size = f"{entry.num_points} points, d = {entry.dim}"
    return Bound(entry.value, f"{entry.reference} ({size})")


def _validate(num_points: int, dim: int) -> tuple[int, int]:
    n, d = operator.index(num_points), operator.index(dim)
    if n < 2:
        raise InputError(f"num_points must be at least 2 to have a pair, got {n}")
    if d < 1:
        raise InputError(f"dim must be at least 1, got {d}")
    return n, d


def _tight_design_size(d: int, m: int) -> int:
    """Return ``D(d, m)``, the fewest points that a spherical design of strength ``m`` can have."""
    k, odd = divmod(m, 2)
    if odd:
        return 2 * math.comb(d + k - 1, d - 1)
    return math.comb(d + k - 1, d - 1) + (math.comb(d + k - 2, d - 1) if k else 0)


def _order(n: int, d: int) -> int:
    """Return the ``m >= 1`` with ``D(d, m) < n <= D(d, m + 1)`` (``m = 1`` for ``n = 2`` too)."""
    high = 1
    while _tight_design_size(d, high + 1) < n:
        high *= 2
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if _tight_design_size(d, middle + 1) < n else (low, middle)
    return high


def _end_of_order(d: int, m: int) -> float:
    """Return the right end of the interval of order ``m``, where ``L_m(d, s) = D(d, m + 1)``."""
    a = (d - 3) / 2
    k = (m + 1) // 2
    return _largest_jacobi_zero(k, a + 1, a if m % 2 else a + 1) if k else -1.0


def _largest_jacobi_zero(k: int, a: float, b: float) -> float:
    """Return the largest zero of ``P_k^(a, b)``, an eigenvalue of its Jacobi matrix (Golub, Welsch)."""
    import numpy as np
    from scipy.linalg import eigvalsh_tridiagonal

    i = np.arange(1, k)
    total = 2 * i + a + b
    diagonal = np.empty(k)
    diagonal[0] = (b - a) / (a + b + 2)
    diagonal[1:] = (b - a) * (b + a) / (total * (total + 2))
    squared = 4 * i * (i + a) * (i + b) * (i + a + b) / (total**2 * (total**2 - 1))
    top = eigvalsh_tridiagonal(diagonal, np.sqrt(squared), select="i", select_range=(k - 1, k - 1))
    return float(top[0])


def _max_points(d: int, m: int, s: float) -> float:
    """Return ``L_m(d, s)``, Levenshtein's upper bound on the size of a code with max cosine ``s``."""
    a = (d - 3) / 2
    k, even = (m + 1) // 2, 1 - m % 2
    ratio = _jacobi(k - 1 + even, a + 1, a, s) / _jacobi(k, a, a + even, s)
    return (1 - ratio) * _tight_design_size(d, 2 * (k - 1 + even))


def _jacobi(k: int, a: float, b: float, s: float) -> float:
    """Evaluate the Jacobi polynomial ``P_k^(a, b)(s)``, normalized to 1 at ``s = 1``."""
    from scipy.special import binom, eval_jacobi

    return float(eval_jacobi(k, a, b, s) / binom(k + a, k))
