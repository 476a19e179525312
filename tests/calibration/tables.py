"""What is simulated, a table each: false alarms, coverage, power beside its promise, looks, margins and images."""

from collections.abc import Callable, Iterator

import numpy as np
from scipy.special import stdtr, stdtrit

from ablate.analysis import Rule, sequential
from ablate.analysis.rule import ALPHA, spread_range
from calibration.scores import BREAKING, DISTRIBUTIONS, Array, studies
from calibration.tests_of_many import covers, holm, sign_flips, t_tests

SEEDS = (5, 6, 8, 12, 16, 32)
COMPARISONS = (1, 2, 3, 6)
TESTS = {"sign flips": ("sign_flip", "seeds"), "paired t": ("t", "seeds"), "Welch": ("t", "none")}
MOST, ANYTIME = 64, (8, 16, 32, 64)
LOOKS = {12: (6, 12), 16: (8, 16), 32: (8, 16, 24, 32)}
STUDIES, FEWER = 10_000, 3_000  # the fewer where all signs of 16 seeds or more are tried
Table = tuple[str, list[str], list[list[str]]]  # caption, heads, rows


def p_values(scores: Array, test: str, rng: np.random.Generator) -> Array:
    """Of every level against the control, (studies, levels)."""
    return sign_flips(scores, rng) if test == "sign flips" else t_tests(scores, TESTS[test][1])[3]


def sequentially(scores: Array, looks: tuple[int, ...], pairing: str = "seeds") -> Array:
    """The p of every level at every look, (studies, levels, looks)."""
    nominal = [t_tests(scores[:, :, :look], pairing)[3] for look in looks]
    return sequential.look_p(np.stack(nominal, axis=-1), looks)


def false_alarms(rng: np.random.Generator) -> Iterator[Table]:
    """A table for each distribution: any difference shown where there is none."""
    for name, draw in {**DISTRIBUTIONS, **BREAKING}.items():
        rows = []
        for n in SEEDS:
            scores = studies(draw, rng, STUDIES, 1 + max(COMPARISONS), n)
            for test in TESTS:
                few = scores[:FEWER] if test == "sign flips" and n >= 16 else scores
                p = p_values(few, test, rng)
                rates = [np.mean((holm(p[:, :k]) < ALPHA).any(axis=1)) for k in COMPARISONS]
                rows.append([str(n), test, *map(rate, rates)])
            if n in LOOKS:
                for pairing, of in (("seeds", "paired t"), ("none", "Welch")):
                    p = sequentially(scores, LOOKS[n], pairing)
                    rates = [np.mean(any_look(p[:, :k])) for k in COMPARISONS]
                    rows.append([str(n), f"{of}, looks at {', '.join(map(str, LOOKS[n]))}", *map(rate, rates)])
        yield f"False alarms, {name}", ["seeds", "test", *(f"k = {k}" for k in COMPARISONS)], rows


def any_look(p: Array) -> Array:
    """Whether any comparison was shown at any look, by Holm over the looks' p, (studies,)."""
    return np.any([(holm(p[:, :, at]) < ALPHA).any(axis=1) for at in range(p.shape[2])], axis=0)


def coverage(rng: np.random.Generator) -> Table:
    """How often the 95 % intervals hold the true difference, over all distributions."""
    rows = []
    for name, draw in {**DISTRIBUTIONS, **BREAKING}.items():
        for pairing, of in (("seeds", "paired t"), ("none", "Welch")):
            found = []
            for n in SEEDS:
                scores = studies(draw, rng, STUDIES, 2, n)
                found.append(covers(*t_tests(scores, pairing)[:3]).mean())
            rows.append([name, of, *map(rate, found)])
    return "Coverage of 95 % intervals", ["scores", "interval", *(f"{n} seeds" for n in SEEDS)], rows


def power(rng: np.random.Generator) -> Table:
    """How often the difference that a plan promises to find 8 times in 10 is found, where the other arms have none."""
    rows = []
    for test, (kind, pairing) in TESTS.items():
        for n in SEEDS:
            cells = []
            for k in COMPARISONS:
                rule = Rule(k, test=kind, pairing=pairing)
                spread = np.sqrt(2 * (1 - 0.06)) if pairing == "seeds" else np.sqrt(2)
                gap = rule.detectable(spread, n)
                if not np.isfinite(gap):
                    cells.append("not testable")
                    continue
                scores = studies(DISTRIBUTIONS["normal"], rng, FEWER, 1 + k, n)
                scores[:, 1] += gap
                cells.append(f"{rate(np.mean(holm(p_values(scores, test, rng))[:, 0] < ALPHA))} at {gap:.2f}")
            rows.append([str(n), test, *cells])
    return (
        "Power, promised as .80, and the gap in sd of an arm",
        ["seeds", "test", *(f"k = {k}" for k in COMPARISONS)],
        rows,
    )


def which_test(rng: np.random.Generator) -> Table:
    """False alarms and the power at a gap of 1.5 sd, by the correlation of arms over seeds; three comparisons."""
    rows = []
    for rho in (0.19, 0.5, -0.3):
        for n in (5, 8, 12):
            scores = studies(DISTRIBUTIONS["normal"], rng, STUDIES, 4, n, rho=rho)
            other = scores + np.array([0, 1.5, 0, 0])[None, :, None]
            for test in TESTS:
                wrong = np.mean((holm(p_values(scores, test, rng)) < ALPHA).any(axis=1))
                right = np.mean(holm(p_values(other, test, rng))[:, 0] < ALPHA)
                rows.append([f"{rho:g}", str(n), test, rate(wrong), rate(right)])
    return (
        "Which test: three comparisons, one with a gap of 1.5 sd of an arm",
        ["correlation", "seeds", "test", "false alarms", "power at 1.5 sd"],
        rows,
    )


def anytime(rng: np.random.Generator) -> Table:
    """E-values looked at after every seed up to 64: false alarms at any time, over all comparisons."""
    rows = []
    for name, draw in {**DISTRIBUTIONS, **BREAKING}.items():
        scores = studies(draw, rng, STUDIES, 1 + max(COMPARISONS), MOST)
        p = 1 / np.fmax.accumulate(sequential.e_values(scores[:, 1:] - scores[:, :1]), axis=-1)
        rows.append(
            [name, *(rate(np.mean((holm(np.minimum(p[:, :k, -1], 1)) < ALPHA).any(axis=1))) for k in COMPARISONS)]
        )
    return (
        f"E-values, looked at after every seed up to {MOST}: false alarms",
        ["scores", *(f"k = {k}" for k in COMPARISONS)],
        rows,
    )


def price_of_anytime(rng: np.random.Generator) -> Table:
    """Power at a number of seeds and seeds until shown, beside a t test of so many seeds that was planned before."""
    rows = []
    for gap in (0.5, 1.0, 1.5, 2.0):
        scores = studies(DISTRIBUTIONS["normal"], rng, FEWER, 2, MOST)
        scores[:, 1] += gap
        e = np.fmax.accumulate(sequential.e_values(scores[:, 1] - scores[:, 0]), axis=-1)
        shown = e >= 1 / ALPHA
        cells = [
            f"{rate(np.mean(shown[:, n - 1]))} ({rate(np.mean(t_tests(scores[:, :, :n], 'seeds')[3] < ALPHA))})"
            for n in ANYTIME
        ]
        first = np.where(shown.any(axis=1), shown.argmax(axis=1) + 1, MOST)
        most = f"{np.quantile(first, 0.8):.0f}" if shown[:, -1].mean() >= 0.8 else f"over {MOST}"
        fixed = next((n for n in range(3, MOST) if np.mean(t_tests(scores[:, :, :n], "seeds")[3] < ALPHA) >= 0.8), MOST)
        rows.append([f"{gap:g}", *cells, f"{first.mean():.0f}", most, f"{fixed}"])
    heads = [
        "gap (sd)",
        *(f"{n} seeds" for n in ANYTIME),
        "mean seeds until shown",
        "seeds for .8",
        "planned t, seeds for .8",
    ]
    return "E-values: power, in brackets that of a planned t test", heads, rows


def cost_of_looks(rng: np.random.Generator) -> Table:
    """Looks at 8, 16, 24 and 32 seeds beside 32 seeds at once: all arms have the same gap to the control."""
    looks, rows = LOOKS[32], []
    for k in COMPARISONS:
        for gap in (0.0, 0.5, 1.0, 1.5, 2.0):
            scores = studies(DISTRIBUTIONS["normal"], rng, FEWER, 1 + k, 32)
            scores[:, 1:] += gap
            fixed = np.mean(holm(t_tests(scores, "seeds")[3]) < ALPHA)
            shown, trials, covered, _ = staged(scores, looks, gap)
            rows.append(
                [str(k), f"{gap:g}", rate(fixed), rate(shown), f"{32 * (1 + k)}", f"{trials:.0f}", *map(rate, covered)]
            )
    heads = ["k", "gap (sd)", "power, 32 at once", "power, looks", "trials, at once", "trials, looks"]
    return "Cost of looks, futility heeded", [*heads, "coverage", "coverage of plain intervals"], rows


def staged(scores: Array, looks: tuple[int, ...], gap: float) -> tuple[float, float, tuple[float, float], Array]:
    """Trained from look to look as `ablate run` does: share of comparisons shown, mean trials of a study, coverage of
    repeated and of plain intervals at the end, and which comparisons were shown."""
    count, k = len(scores), scores.shape[1] - 1
    open_, shown = np.ones((count, k), bool), np.zeros((count, k), bool)
    trials, crossed = np.zeros(count), np.ones((count, k))
    repeated, plain = np.zeros((count, k), bool), np.zeros((count, k), bool)
    levels, nominal, before = sequential.levels(ALPHA, looks), [], 0
    for at, look in enumerate(looks):
        trials += (look - before) * (open_.sum(axis=1) + open_.any(axis=1))
        before = look
        diff, error, freedom, p = t_tests(scores[:, :, :look], "seeds")
        nominal.append(p)
        found = sequential.look_p(np.stack(nominal, axis=-1), looks)[:, :, -1]
        crossed = np.where(open_, found, crossed)
        over = holm(crossed) < ALPHA
        chance = _conditional(p, look, looks)
        ends = open_ & (over | (chance < sequential.HOPELESS) | (at == len(looks) - 1))
        repeated[ends] = covers(diff, error, freedom, gap, level=float(levels[at]))[ends]
        plain[ends] = covers(diff, error, freedom, gap)[ends]
        shown |= over
        open_ &= ~ends
    return float(shown.mean()), float(trials.mean()), (float(repeated.mean()), float(plain.mean())), shown


def _conditional(p: Array, look: int, looks: tuple[int, ...]) -> Array:
    """The project's conditional power, from its own values on a grid."""
    grid = np.geomspace(1e-12, 1.0, 200)
    values = [sequential.conditional_power(float(one), look, looks, alpha=ALPHA) for one in grid]
    return np.interp(np.log(np.maximum(p, 1e-12)), np.log(grid), values)


def margins(rng: np.random.Generator) -> Table:
    """A margin beside differences, sharing one error rate: some arms without a gap, some exactly at the margin."""
    rows = []
    for n in (8, 16, 32):
        for k in COMPARISONS:
            margin = 1.5
            scores = studies(DISTRIBUTIONS["normal"], rng, STUDIES, 1 + k, n)
            at_margin = np.arange(k) % 2 == 1 if k > 1 else np.array([True])
            scores[:, 1:] += margin * at_margin[None, :, None]
            diff, error, freedom, p = t_tests(scores, "seeds")
            differs = p * k < ALPHA
            alike = stdtr(freedom, (np.abs(diff) - margin) / error) * k < ALPHA
            wrong = np.where(at_margin, alike, differs).any(axis=1).mean()
            rule, spread = Rule(k, test="t", margin=margin), np.sqrt(2 * 0.94)
            none = studies(DISTRIBUTIONS["normal"], rng, STUDIES, 1 + k, n)
            diff, error, freedom, _ = t_tests(none, "seeds")
            right = (stdtr(freedom, (np.abs(diff) - margin) / error) * k < ALPHA).mean()
            rows.append([str(n), str(k), rate(wrong), rate(right), rate(rule.equivalence_power(spread, n))])
    heads = ["seeds", "k", "any wrong verdict", "shown where there is no gap", "promised"]
    return "Margin of 1.5 sd of an arm: every second arm lies at the margin, the others have no gap", heads, rows


def new_images(rng: np.random.Generator) -> Table:
    """Coverage for new seeds and new images: differences with a seed part of 1 and an image part of the mean score."""
    rows = []
    for share in (0.25, 0.5, 1.0):  # sd of the image part, of that of a seed's difference
        joint, alone = [], []
        for n in (3, *SEEDS):
            images = share * rng.standard_normal(STUDIES)
            values = rng.standard_normal((STUDIES, n)) + images[:, None]
            error = values.std(axis=1, ddof=1) / np.sqrt(n)
            half = stdtrit(n - 1, 1 - ALPHA / 2) * error
            joint.append(np.mean(np.abs(values.mean(axis=1)) <= np.hypot(half, 1.96 * share)))
            alone.append(np.mean(np.abs(values.mean(axis=1)) <= half))
        rows.append([f"{share:g}", "half-widths in quadrature", *map(rate, joint)])
        rows.append([f"{share:g}", "seeds alone", *map(rate, alone)])
    heads = ["sd of images, of a seed's difference", "interval", *(f"{n} seeds" for n in (3, *SEEDS))]
    return "Coverage for new seeds and new images, where redrawn images move a difference by so much", heads, rows


def stopping(rng: np.random.Generator) -> Table:
    """What adding seeds costs, and what the kept plan makes of it; one comparison, none differs."""
    rows = []
    scores = studies(DISTRIBUTIONS["normal"], rng, STUDIES, 2, 40)
    ways: dict[str, tuple[int, ...]] = {"6 to 12, one by one": tuple(range(6, 13)), "8, then all 32": (8, 32)}
    for name, counts in ways.items():
        nominal = np.stack([t_tests(scores[:, :, :n], "seeds")[3][:, 0] for n in counts])
        rows.append([name, "until shown", rate(np.mean((nominal < ALPHA).any(axis=0)))])
    alone = t_tests(scores[:, :, 8:32], "seeds")[3][:, 0]
    rows.append(["8, then 24 more", "the new ones alone, as reports do", rate(np.mean(alone < ALPHA))])
    return "Seeds that are added", ["seeds", "verdict", "false alarms"], rows


def ranges(rng: np.random.Generator) -> Table:
    """How often the range printed with a number of seeds, that of the noisiest comparison, holds the one that the true
    spread asks for."""
    rows = []
    for n in SEEDS:
        found = studies(DISTRIBUTIONS["normal"], rng, STUDIES, 1 + max(COMPARISONS), n, rho=0.0)
        sd = (found[:, 1:] - found[:, :1]).std(axis=2, ddof=1) / np.sqrt(2)
        held = []
        for k in COMPARISONS:
            (low, high), noisiest = spread_range(n - 1, of=k), sd[:, :k].max(axis=1)
            held.append(rate(np.mean((low * noisiest <= 1) & (high * noisiest >= 1))))
        rows.append([str(n), *held])
    heads = ["seeds of the pilot", *(f"k = {k}" for k in COMPARISONS)]
    return "Ranges of numbers of seeds, meant to contain the true number in 90 % or more", heads, rows


def rate(value: float) -> str:
    """.047"""
    return f"{value:.3f}".removeprefix("0")


SINGLE: list[Callable[[np.random.Generator], Table]] = [
    coverage, power, which_test, cost_of_looks, margins, new_images, stopping, ranges,
    anytime, price_of_anytime,
]  # fmt: skip
