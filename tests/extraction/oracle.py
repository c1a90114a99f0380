"""Slow, plain calculations of the mass-flow cascade that share no code with the package.

``binary`` marches two elements stage to stage from both ends, as on paper. ``dense`` solves any
cascade by Newton's method with full matrices in the fluxes themselves.
"""

import numpy as np


def binary(beta, feed, purity_light, purity_heavy, solvent):
    """Stages n and (interpolated) m of a binary circuit: pairs for every n that can be joined."""
    p_a, p_b = purity_heavy, purity_light
    # Balance of both elements: f'_A P_A + f'_B (1 - P_B) = f_A with f'_A + f'_B = 1.
    out_a = (feed - (1 - p_b)) / (p_a - (1 - p_b))
    out_b, scrub = 1 - out_a, solvent - out_a
    pairs = []
    x = first = 1 - p_b
    for n in range(1, 400):
        y = beta * x / (1 + (beta - 1) * x)
        x = (solvent * y + out_b * first) / (scrub + 1)
        # Scrub section from the organic end until the aqueous leaving it matches.
        y_s, m, before = p_a, 0, None
        for m in range(1, 400):
            x_s = y_s / (beta - (beta - 1) * y_s)
            joined = (scrub * x_s + feed) / (scrub + 1)
            if joined <= x:
                part = 0.0 if before is None else (before - x) / (before - joined)
                pairs.append((n, m - 1 + part if before is not None else m))
                break
            before = joined
            new = (out_a * p_a + scrub * x_s) / solvent
            if abs(new - y_s) < 1e-15:
                break
            y_s = new
        if x >= 1 - 1e-12:
            break
    return pairs


def dense(a, stages, solvent, scrub, feeds, draws=(), efficiency=None):
    """Raffinate, loaded organic, draws, and fluxes leaving each stage.

    ``feeds``: (phase, stage, flows); ``draws``: (phase, stage, total flow). Stages from 1.
    """
    a = np.asarray(a, dtype=float)
    parts, n = len(a), stages
    feed_aq, feed_org = np.zeros((n, parts)), np.zeros((n, parts))
    for phase, stage, flows in feeds:
        (feed_aq if phase == "aqueous" else feed_org)[stage - 1] += flows
    draw_aq, draw_org = np.zeros(n), np.zeros(n)
    for phase, stage, flow in draws:
        (draw_aq if phase == "aqueous" else draw_org)[stage - 1] += flow
    fed = feed_org.sum(axis=1)
    flux = solvent + np.cumsum(fed) - np.concatenate([[0], np.cumsum(draw_org)[:-1]])
    flux[-1] -= scrub
    # Aqueous totals follow from the balance around the raffinate end.
    entering = np.concatenate([[0], flux[:-1] - draw_org[:-1]])
    aqueous = np.zeros(n + 1)
    for k in range(n - 1, -1, -1):
        into = aqueous[k + 1] + entering[k] + fed[k] + feed_aq[k].sum()
        aqueous[k] = into - flux[k]
        if draw_aq[k]:
            aqueous[k] -= draw_aq[k]
    leaving = aqueous[:n] + draw_aq
    keep_aq, keep_org = 1 - draw_aq / leaving, 1 - draw_org / flux
    mixed = (feed_aq + feed_org).sum(axis=0)
    log_tau = np.log(flux / (leaving * (a @ mixed) / mixed.sum()))
    target = a
    # From nearly equal elements to the real ones: each step starts from the last.
    for spread in np.linspace(0.2, 1.0, 9):
        a = target**spread
        log_tau, aq, o = _newton(a, log_tau, flux, keep_aq, keep_org, feed_aq + feed_org)
    taken = {
        (phase, stage): (aq if phase == "aqueous" else o)[stage - 1]
        * ((1 - keep_aq) if phase == "aqueous" else (1 - keep_org))[stage - 1]
        for phase, stage, _ in draws
    }
    return aq[0] * keep_aq[0], o[-1] * keep_org[-1], taken, aq, o


def _newton(a, log_tau, flux, keep_aq, keep_org, feed):
    """ln(organic flux / sum(a l)) of every stage, and the fluxes leaving it."""
    n = len(flux)

    def fluxes(log_tau):
        tau = np.exp(log_tau)
        both = [_linear(tau * ai, keep_aq, keep_org, feed[:, i]) for i, ai in enumerate(a)]
        aq = np.array([b[0] for b in both]).T
        o = tau[:, None] * a * aq
        with np.errstate(invalid="ignore"):
            return aq, o, [b[1] for b in both], np.log(o.sum(axis=1) / flux)

    aq, o, inverses, gap = fluxes(log_tau)
    for _ in range(300):
        if np.abs(gap).max() < 1e-12:
            break
        tau = np.exp(log_tau)
        jacobian = np.zeros((n, n))
        for i, inverse in enumerate(inverses):
            # A change of ln tau_m adds o_m to what leaves stage m and enters stage m + 1.
            source = np.zeros((n, n))
            for k in range(n):
                source[k, k] -= o[k, i]
                if k + 1 < n:
                    source[k + 1, k] += o[k, i] * keep_org[k]
            jacobian += (tau * a[i])[:, None] * (inverse @ source)
            jacobian[np.arange(n), np.arange(n)] += o[:, i]
        step = np.linalg.solve(jacobian / o.sum(axis=1)[:, None], -gap)
        part = min(1.0, 2.0 / np.abs(step).max())
        while True:
            new = fluxes(log_tau + part * step)
            if np.square(new[3]).sum() < np.square(gap).sum() or part < 1e-6:
                break
            part *= 0.5
        log_tau = log_tau + part * step
        aq, o, inverses, gap = new
        if part < 1e-6 and np.abs(gap).max() < 1e-9:
            break
    else:
        raise AssertionError(f"the oracle did not converge: {np.abs(gap).max()}")
    return log_tau, aq, o


def _linear(distribution, keep_aq, keep_org, feed):
    """Aqueous fluxes leaving each stage at given o/aq, and the inverse of the balance matrix."""
    n = len(feed)
    matrix = np.diag(1 + distribution)
    for k in range(n - 1):
        matrix[k, k + 1] = -keep_aq[k + 1]
        matrix[k + 1, k] = -distribution[k] * keep_org[k]
    inverse = np.linalg.inv(matrix)
    return inverse @ feed, inverse
