"""Means, ratios and lines, each with its 95% interval. Standard library only: numpy and scipy weigh 100 MB.

A *value* here is what one repeat gave, that is, one restart of the server: observations within a block are not
independent of each other, and are never counted as if they were. Ratios are compared as logarithms, since a thing
twice as dear and one half as dear are equally far from no difference.
"""

import math
from collections.abc import Sequence
from typing import Final, NamedTuple

CONFIDENCE: Final = 0.95

UNIFORM_EFFECT: Final = 0.1
"""How far (in probability) stalenesses may be from uniform, besides chance. No quantile of a poll's staleness is then
off by more than a tenth of the interval, and what is claimed of it is a factor of ten and more. A p-value alone would
refuse every honest run that is long enough: a response time of 1% of the interval is a difference too."""
UNIFORM_CHANCE: Final = 1.63
"""Kolmogorov: the distance of n independent values from their own distribution exceeds 1.63/sqrt(n) once in a hundred
(Smirnov, Table for estimating the goodness of fit of empirical distributions, 1948)."""
UNIFORM_LEAST: Final = 20
"""With fewer values the allowance for chance alone is above a third, and nothing could fail."""


class Interval(NamedTuple):
    """A value and its 95% interval; the ends are None where one value alone was there."""

    value: float
    low: float | None
    high: float | None


class Ratio(NamedTuple):
    """A quotient and its 95% interval; ``value`` is None where there is none, and ``note`` says why."""

    value: float | None
    low: float | None
    high: float | None
    note: str = ""

    @property
    def resolvable(self) -> bool:
        """Whether the interval leaves out 1, that is, whether there is a difference."""
        return self.low is not None and self.high is not None and not self.low <= 1.0 <= self.high


class Line(NamedTuple):
    """What ``least_squares`` found: coefficients, their covariance (None with no point to spare), residual SD."""

    coefficients: tuple[float, ...]
    covariance: tuple[tuple[float, ...], ...] | None
    residual: float
    spare: int
    """Degrees of freedom."""


def t_quantile(freedom: int, confidence: float = CONFIDENCE) -> float:
    """The t that a share ``confidence`` of Student's distribution lies within, on both sides together.

    Bisects the exact series for whole degrees of freedom (Abramowitz and Stegun 26.7.3 and 26.7.4).
    """
    if freedom < 1:
        raise ValueError("no degrees of freedom")
    low, high = 0.0, 1.0
    while _t_within(high, freedom) < confidence:
        high *= 2.0
    for _ in range(100):
        middle = (low + high) / 2.0
        low, high = (middle, high) if _t_within(middle, freedom) < confidence else (low, middle)
    return (low + high) / 2.0


def _t_within(t: float, freedom: int) -> float:
    angle = math.atan(t / math.sqrt(freedom))
    cosine_squared = math.cos(angle) ** 2
    odd = freedom % 2
    term = math.cos(angle) if odd else 1.0
    total = 0.0 if freedom == 1 else term
    for k in range(3 if odd else 2, freedom - 1, 2):
        term *= cosine_squared * (k - 1) / k
        total += term
    series = math.sin(angle) * total
    return 2.0 / math.pi * (angle + series) if odd else series


def mean(values: Sequence[float]) -> Interval:
    """The mean of at least one value."""
    centre = math.fsum(values) / len(values)
    if len(values) < 2:
        return Interval(centre, None, None)
    half = t_quantile(len(values) - 1) * math.sqrt(_variance(values) / len(values))
    return Interval(centre, centre - half, centre + half)


def _variance(values: Sequence[float]) -> float:
    return _covariance(values, values)


def _covariance(ours: Sequence[float], theirs: Sequence[float]) -> float:
    a, b = math.fsum(ours) / len(ours), math.fsum(theirs) / len(theirs)
    return math.fsum((x - a) * (y - b) for x, y in zip(ours, theirs, strict=True)) / (len(ours) - 1)


def paired_ratio(values: Sequence[float], versus: Sequence[float]) -> Ratio:
    """The ratio of ``values`` to ``versus``, which were measured in pairs.

    Where all are positive: the geometric mean of the ratios, with the t-interval of their logarithms. Else, a count of
    nothing or a difference lost in noise among them: the quotient of the means with Fieller's interval (1954), which
    needs ``versus`` to be above the noise.
    """
    if len(values) != len(versus):
        raise ValueError("pairs are of two")
    if not values:
        return Ratio(None, None, None, "no pairs")
    if all(each > 0 for each in (*values, *versus)):
        centre, low, high = mean([math.log(a / b) for a, b in zip(values, versus, strict=True)])
        if low is None or high is None:
            return Ratio(math.exp(centre), None, None, "one repeat has no interval")
        return Ratio(math.exp(centre), math.exp(low), math.exp(high))
    return _fieller(values, versus)


def _fieller(values: Sequence[float], versus: Sequence[float]) -> Ratio:
    n = len(values)
    x, y = math.fsum(values) / n, math.fsum(versus) / n
    if not any(versus):
        return Ratio(None, None, None, "the other one is 0")
    if n < 2:
        return Ratio(x / y, None, None, "one repeat has no interval") if y > 0 else Ratio(None, None, None, _NOISE)
    critical = t_quantile(n - 1) ** 2 / n
    a = y * y - critical * _variance(versus)
    if y <= 0 or a <= 0:
        return Ratio(None, None, None, _NOISE)
    b = x * y - critical * _covariance(values, versus)
    c = x * x - critical * _variance(values)
    root = math.sqrt(max(0.0, b * b - a * c))
    return Ratio(max(0.0, x / y), max(0.0, (b - root) / a), max(0.0, (b + root) / a))


_NOISE: Final = "the other one is not above the noise"


def unpaired_ratio(values: Sequence[float], versus: Sequence[float]) -> Ratio:
    """The ratio of the geometric means of two runs that know nothing of each other (Welch's interval of the logs)."""
    if not values or not versus:
        return Ratio(None, None, None, "no data on one side")
    if any(each <= 0 for each in (*values, *versus)):
        x, y = math.fsum(values) / len(values), math.fsum(versus) / len(versus)
        if y > 0 and x >= 0:
            return Ratio(x / y, None, None, "a 0 among the values: no interval")
        return Ratio(None, None, None, "the other one is 0" if y == 0 else _NOISE)
    ours, theirs = [math.log(each) for each in values], [math.log(each) for each in versus]
    centre = math.fsum(ours) / len(ours) - math.fsum(theirs) / len(theirs)
    if len(ours) < 2 or len(theirs) < 2:
        return Ratio(math.exp(centre), None, None, "one repeat has no interval")
    a, b = _variance(ours) / len(ours), _variance(theirs) / len(theirs)
    if a + b == 0.0:
        return Ratio(math.exp(centre), math.exp(centre), math.exp(centre))
    freedom = (a + b) ** 2 / (a * a / (len(ours) - 1) + b * b / (len(theirs) - 1))
    half = t_quantile(max(1, math.floor(freedom))) * math.sqrt(a + b)
    return Ratio(math.exp(centre), math.exp(centre - half), math.exp(centre + half))


def least_squares(rows: Sequence[Sequence[float]], values: Sequence[float]) -> Line:
    """The coefficients that take ``rows`` closest to ``values``.

    Raises:
        ValueError: the rows do not tell the coefficients apart.
    """
    width = len(rows[0]) if rows else 0
    if len(rows) < max(1, width):
        raise ValueError("fewer points than coefficients")
    # Columns of one size: clients times updates is in the ten thousands where the constant is 1.
    sizes = [math.sqrt(math.fsum(row[k] ** 2 for row in rows)) for k in range(width)]
    if not all(sizes):
        raise ValueError("a column is all 0")
    scaled = [[row[k] / sizes[k] for k in range(width)] for row in rows]
    normal = [[math.fsum(row[i] * row[j] for row in scaled) for j in range(width)] for i in range(width)]
    inverse = _inverse(normal)
    right = [math.fsum(row[i] * value for row, value in zip(scaled, values, strict=True)) for i in range(width)]
    found = [math.fsum(inverse[i][j] * right[j] for j in range(width)) / sizes[i] for i in range(width)]
    misses = [
        value - math.fsum(f * x for f, x in zip(found, row, strict=True))
        for row, value in zip(rows, values, strict=True)
    ]
    spare = len(rows) - width
    if spare == 0:
        return Line(tuple(found), None, 0.0, 0)
    variance = math.fsum(each * each for each in misses) / spare
    covariance = tuple(
        tuple(variance * inverse[i][j] / (sizes[i] * sizes[j]) for j in range(width)) for i in range(width)
    )
    return Line(tuple(found), covariance, math.sqrt(variance), spare)


def _inverse(matrix: Sequence[Sequence[float]]) -> list[list[float]]:
    """Of a matrix whose diagonal is 1 (Gauss and Jordan, with the largest pivot)."""
    width = len(matrix)
    work = [[*row, *(float(i == j) for j in range(width))] for i, row in enumerate(matrix)]
    for k in range(width):
        pivot = max(range(k, width), key=lambda i: abs(work[i][k]))
        if abs(work[pivot][k]) < 1e-9:
            raise ValueError("the points do not tell the coefficients apart")
        work[k], work[pivot] = work[pivot], work[k]
        work[k] = [each / work[k][k] for each in work[k]]
        for i in range(width):
            if i != k:
                work[i] = [each - work[i][k] * of for each, of in zip(work[i], work[k], strict=True)]
    return [row[width:] for row in work]


def slope(points: Sequence[tuple[float, float]]) -> Interval | None:
    """How much y grows with each x; None where all x are alike."""
    try:
        line = least_squares([(1.0, x) for x, _ in points], [y for _, y in points])
    except ValueError:
        return None
    value = line.coefficients[1]
    if line.covariance is None:
        return Interval(value, None, None)
    half = t_quantile(line.spare) * math.sqrt(line.covariance[1][1])
    return Interval(value, value - half, value + half)


def uniform_distance(values: Sequence[float], interval: float) -> float:
    """Kolmogorov's distance between ``values`` and the uniform distribution on 0 to ``interval``."""
    n = len(values)
    furthest = 0.0
    for k, value in enumerate(sorted(values)):
        theory = min(1.0, max(0.0, value / interval))
        furthest = max(furthest, theory - k / n, (k + 1) / n - theory)
    return furthest


def uniform_check(values: Sequence[float], interval: float, independent: int | None = None) -> tuple[bool, str]:
    """Whether stalenesses of polls are as they must be: uniform on 0 to the interval, whenever the update came.

    They are not, if the load generator's clients poll in step, drift, leave polls out, or if staleness is taken from
    the poll that was instead of the one that should have been.

    Args:
        values: Seconds.
        interval: Seconds between two polls, on the same clock.
        independent: How many of the values are independent of each other: clients that poll at phases of their own see
            the same updates, so it is at least the smaller of the two counts. All of them, by default.
    """
    if interval <= 0:
        return False, "no interval: nothing polls here"
    count = min(len(values), independent if independent is not None else len(values))
    if count < UNIFORM_LEAST:
        return False, f"{count} independent stalenesses are too few to tell how they are distributed"
    distance = uniform_distance(values, interval)
    allowed = UNIFORM_EFFECT + UNIFORM_CHANCE / math.sqrt(count)
    verdict = "within" if distance <= allowed else "outside"
    return distance <= allowed, (
        f"{len(values)} stalenesses are {distance:.3f} from uniform on 0 to {interval:g} s, {verdict} {allowed:.3f}"
    )
