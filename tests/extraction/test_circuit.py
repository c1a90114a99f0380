"""The mass-action circuit: exact fluxes, closures, limits, and its invariances."""

import doctest
from dataclasses import replace

import numpy as np
import pytest

from sepmodel.chemistry import cation_exchange
from sepmodel.chemistry.cation_exchange import CationExchange
from sepmodel.errors import ConvergenceError, InputError
from sepmodel.extraction import chain as chains
from sepmodel.extraction import chain_plain, circuit, linearised, stagewise
from sepmodel.extraction.circuit import CircuitInputs, Draw, Inlet, Section, solve

LITRE_PER_HOUR = 1e-3 / 3600
SERIES = ("La", "Ce", "Pr", "Nd", "Sm", "Eu", "Gd", "Tb", "Dy", "Ho", "Y", "Er", "Tm", "Yb", "Lu")
# Test values near those of PC88A in chloride; what is tested does not depend on them.
STEPS = (2.2, 2.3, 1.4, 10.6, 2.36, 1.51, 5.81, 2.82, 2.0, 1.53, 1.43, 3.37, 3.56, 1.78)
LOG_K = dict(zip(SERIES, np.cumsum([0.0, *np.log(STEPS)]), strict=True))
LOG_K = {name: value - LOG_K["Nd"] - 2.15 * np.log(10) for name, value in LOG_K.items()}
LOG_K_SODIUM = -5 * np.log(10)


def benchmark(stages, count):
    """The fixed open-loop benchmark circuit."""
    i = np.arange(count)
    z = np.array([3.0] * count + [1.0])
    log_k = np.append(np.log(0.02) + np.log(1.8) * (i - (count - 1) / 2), LOG_K_SODIUM)
    half = stages // 2
    return CircuitInputs(
        components=(*(f"E{k}" for k in i), "Na"),
        model=CationExchange(log_k=log_k, charge=z, dimers=z),
        charge=z,
        sections=(
            Section(name="extraction", stages=half),
            Section(name="scrub", stages=stages - half),
        ),
        organic_flow=6 * LITRE_PER_HOUR,
        dimer=750.0,
        organic_conc=np.append(np.zeros(count), 600.0),
        inlets=(
            Inlet(
                name="feed",
                section="extraction",
                stage=half,
                flow=LITRE_PER_HOUR,
                conc=np.append(np.full(count, 1000.0 / count), 0.0),
                acid=10.0,
            ),
            Inlet(
                name="scrub",
                section="scrub",
                stage=stages - half,
                flow=0.3 * LITRE_PER_HOUR,
                conc=np.zeros(count + 1),
                acid=600.0,
            ),
        ),
    )


def closed(elements, shares, cut, stages, *, reflux=2.0, strip=6000.0, ratio=20.0):
    """Extraction, scrub and strip with the organic loop closed; ``cut`` and heavier go organic."""
    c = len(elements)
    z = np.array([3.0] * c + [1.0])
    x = np.array(shares) / np.sum(shares)
    heavy = sum(x[elements.index(cut) :])
    solvent = heavy + reflux
    organic = solvent * 3 / 350.0 * 1e3
    nothing = np.zeros(c + 1)
    return CircuitInputs(
        components=(*elements, "Na"),
        model=CationExchange(
            log_k=np.array([LOG_K[e] for e in elements] + [LOG_K_SODIUM]), charge=z, dimers=z
        ),
        charge=z,
        sections=(
            Section(name="extraction", stages=stages[0]),
            Section(name="scrub", stages=stages[1]),
            Section(name="strip", stages=stages[2], aqueous_to="out"),
        ),
        organic_flow=organic * LITRE_PER_HOUR,
        dimer=500.0,
        organic_conc=np.append(np.zeros(c), 350.0),
        closed=True,
        reset=("Na",),
        inlets=(
            Inlet(
                name="feed",
                section="extraction",
                stage=stages[0],
                flow=LITRE_PER_HOUR,
                conc=np.append(x * 1000.0, 0.0),
                acid=10.0,
            ),
            Inlet(
                name="scrub",
                section="scrub",
                stage=stages[1],
                flow=3 * reflux * LITRE_PER_HOUR,
                conc=nothing,
                acid=1000.0,
            ),
            Inlet(
                name="strip",
                section="strip",
                stage=stages[2],
                flow=organic / ratio * LITRE_PER_HOUR,
                conc=nothing,
                acid=strip,
            ),
        ),
    )


MAGNET = (("Pr", "Nd", "Tb", "Dy"), (0.2, 0.7, 0.02, 0.08))


def magnet(cut="Tb", stages=(8, 8, 4)):
    return closed(*MAGNET, cut, stages, reflux=0.3 if cut == "Tb" else 2.0)


@pytest.mark.parametrize("module", [cation_exchange, circuit, chains, stagewise])
def test_doctests(module):
    assert doctest.testmod(module).failed == 0


# --- the chain of fluxes against a dense linear solve ------------------------------------------


def random_chain(rng, links, bypass, carry, shape=(2, 13, 3)):
    b, n, c = shape
    feed = np.zeros((2, *shape))
    feed[0, :, 5], feed[1, :, 0] = rng.random((b, c)), rng.random((b, c))
    feed[1, :, 7], feed[0, :, 12] = 0.3, 0.1
    draw = np.zeros((2, b, n, 1))
    draw[0, :, 4], draw[1, :, 8], draw[0, :, 9], draw[1, :, 12] = 0.2, 0.3, 1.0, 1.0
    loops = ()
    if links:
        loops = (
            chains.Link(source=(12, 1), target=(0, 1), share=np.array([[0.9, 1.0, 0.0]])),
            chains.Link(source=(9, 0), target=(8, 0), share=np.array([[0.3, 0.3, 0.3]])),
        )
    return chains.Chain(
        feed=feed,
        draw=draw,
        bypass=0.3 * rng.random(shape) if bypass else None,
        carry=np.array([0.05, 0.02])[:, None, None, None] * np.ones((2, b, n, 1))
        if carry
        else None,
        links=loops,
    )


def dense(chain, log_ratio):
    """Aqueous and organic fluxes from the balances of all stages as one matrix per component."""
    b, n, c = log_ratio.shape
    aqueous, organic = np.zeros((b, n, c)), np.zeros((b, n, c))
    for member in range(b):
        for i in range(c):
            a = np.exp(log_ratio[member, :, i])
            past = np.zeros(n) if chain.bypass is None else chain.bypass[member, :, i]
            e, f = (0.0, 0.0) if chain.carry is None else chain.carry[:, member, 0, 0]
            system, rhs = np.eye(2 * n), np.zeros(2 * n)
            for k in range(n):
                down = ((1 - e) + f * a[k]) / (1 + a[k])
                up = ((1 - f) * a[k] + e) / (1 + a[k])
                leaving = np.array(
                    [[down, (1 - past[k]) * down], [up, past[k] + (1 - past[k]) * up]]
                )
                columns = [k, n + k]
                kept = leaving * (1 - chain.draw[:, member, k])
                if k > 0:
                    system[k - 1, columns] -= kept[0]
                if k < n - 1:
                    system[n + k + 1, columns] -= kept[1]
                for link in chain.links:
                    stage, phase = link.source
                    if stage == k:
                        share = chain.draw[phase, member, k, 0] * link.share[0, i]
                        row = link.target[0] + n * link.target[1]
                        system[row, columns] -= share * leaving[phase]
                rhs[k], rhs[n + k] = chain.feed[:, member, k, i]
            into = np.linalg.solve(system, rhs)
            pool = into[:n] + (1 - past) * into[n:]
            aqueous[member, :, i] = pool / (1 + a)
            organic[member, :, i] = a * pool / (1 + a) + past * into[n:]
    return aqueous, organic


def as_dense(system):
    """The band matrices with their corners, written out."""
    members, stages, k, width = system.band.shape
    n = stages * k
    band = system.band.reshape(members, n, width)
    out = np.zeros((members, n, n))
    for column in range(n):
        for row in range(max(0, column - system.high), min(n, column + system.low + 1)):
            out[:, row, column] = band[:, column, system.low + system.high + row - column]
    if system.corners is not None:
        for j, row in enumerate(system.corners.rows):
            for w, column in enumerate(system.corners.columns[j]):
                out[:, row, column] -= system.corners.weight[:, j, w]
    return out


def condensed(system):
    """Total derivative of the closures by the stages' unknowns, fluxes eliminated."""
    full, k = as_dense(system), system.band.shape[2]
    own = np.arange(full.shape[1]) % k >= k - system.unknowns
    flux, cross = full[:, ~own][:, :, ~own], full[:, ~own][:, :, own]
    return full[:, own][:, :, own] - full[:, own][:, :, ~own] @ np.linalg.solve(flux, cross)


@pytest.mark.parametrize("links", [False, True])
@pytest.mark.parametrize("bypass", [False, True])
@pytest.mark.parametrize("carry", [False, True])
def test_fluxes_and_their_response(links, bypass, carry):
    rng = np.random.default_rng(7)
    chain = random_chain(rng, links, bypass, carry)
    log_ratio = rng.normal(0.0, 1.5, (2, 13, 3))
    fluxes = chains.solve(chain, log_ratio)
    aqueous, organic = dense(chain, log_ratio)
    assert np.allclose(np.exp(fluxes.aqueous), aqueous, rtol=1e-12, atol=0)
    assert np.allclose(np.exp(fluxes.organic), organic, rtol=1e-12, atol=0)
    assert chains.local_closure(chain, fluxes).max() < 1e-13
    slope = rng.normal(size=(2, 13, 3, 2))
    by_l, by_v = rng.normal(size=(2, 2, 13, 2, 3))
    none = np.zeros((2, 13, 2, 2))
    systems = [linearised.of_streams(chain, fluxes, slope, by_l, by_v, none)]
    if not bypass and not carry:
        flows = tuple(
            (link.source, link.target, np.exp(flow))
            for link, flow in zip(chain.links, fluxes.link, strict=True)
        )
        relative = by_l * aqueous[:, :, None], by_v * organic[:, :, None]
        kept = 1.0 - chain.draw
        systems.append(linearised.of_fluxes(aqueous, organic, kept, slope, *relative, none, flows))

    def weighed(ratio):
        l, v = dense(chain, ratio)  # noqa: E741
        return np.einsum("bnmc,bnc->bnm", by_l, l) + np.einsum("bnmc,bnc->bnm", by_v, v)

    step = 1e-5
    for system in systems:
        matrix = condensed(system).reshape(2, 13, 2, 13, 2)
        for k in range(13):
            for s in range(2):
                move = np.zeros_like(log_ratio)
                move[:, k] = step * slope[:, k, :, s]
                numeric = (weighed(log_ratio + move) - weighed(log_ratio - move)) / (2 * step)
                assert np.allclose(matrix[:, :, :, k, s], numeric, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("links", [False, True])
def test_factorised_systems(links):
    """Solutions with the band and with its transpose satisfy the equations written out."""
    rng = np.random.default_rng(5)
    chain = random_chain(rng, links, True, True)
    fluxes = chains.solve(chain, rng.normal(0.0, 1.5, (2, 13, 3)))
    slope, by_u = rng.normal(size=(2, 13, 3, 1)), rng.normal(size=(2, 13, 1, 1))
    by_l, by_v = rng.normal(size=(2, 2, 13, 1, 3))
    system = linearised.of_streams(chain, fluxes, slope, by_l, by_v, by_u)
    full = as_dense(system)
    factors = linearised.factorise(system)
    rhs = rng.normal(size=(4, full.shape[1]))
    for member in (0, 1):
        x = linearised.solve(factors, member, rhs)
        assert np.allclose(x @ full[member].T, rhs, rtol=0, atol=1e-10)
        x = linearised.solve_transposed(factors, member, rhs)
        assert np.allclose(x @ full[member], rhs, rtol=0, atol=1e-10)
    own = np.arange(full.shape[1]) % system.band.shape[2] >= system.band.shape[2] - 1
    closures = np.zeros((2, full.shape[1]))
    closures[:, own] = rng.normal(size=(2, 13))
    exact = np.linalg.solve(full, closures[..., None])[..., 0][:, own]
    found = linearised.closing(factors)(closures[:, own], np.arange(2))
    assert np.allclose(found, exact, rtol=0, atol=1e-10)


@pytest.mark.parametrize("links", [False, True])
def test_fluxes_in_plain_numbers_are_the_exact_ones(links):
    rng = np.random.default_rng(11)
    chain = replace(random_chain(rng, False, False, False), draw=np.zeros((2, 2, 13, 1)))
    if links:
        draw = np.zeros((2, 2, 13, 1))
        draw[0, :, 9], draw[1, :, 12] = 1.0, 1.0
        loops = (
            chains.Link(source=(12, 1), target=(0, 1), share=np.array([[0.9, 1.0, 0.0]])),
            chains.Link(source=(9, 0), target=(8, 0), share=np.array([[0.3, 0.3, 0.3]])),
        )
        chain = replace(chain, draw=draw, links=loops)
    log_ratio = rng.normal(0.0, 20.0, (2, 13, 3))
    exact = chains.solve(chain, log_ratio)
    layout = chain_plain.layout(chain)
    aqueous, ratio, flows = chain_plain.solve(layout, log_ratio)
    assert np.allclose(aqueous, np.exp(exact.aqueous), rtol=1e-12, atol=0)
    assert np.allclose(aqueous * ratio, np.exp(exact.organic), rtol=1e-12, atol=0)
    assert np.allclose(flows, np.exp(exact.link), rtol=1e-12, atol=0)
    partly = replace(chain, draw=np.full((2, 2, 13, 1), 0.1))
    assert chain_plain.layout(partly) is None


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e4])
def test_a_member_that_is_lost_leaves_its_mates_alone(bad):
    inputs = magnet()
    plan = circuit.prepare(
        replace(inputs, organic_flow=inputs.organic_flow * np.array([0.99, 1.0, 1.01]))
    )
    log_ratio = np.random.default_rng(0).normal(size=plan.shift.shape)
    good = chain_plain.solve(plan.layout, log_ratio)
    spoilt = log_ratio.copy()
    spoilt[1, 3, 2] = bad
    found = chain_plain.solve(plan.layout, spoilt)
    for part, exact in zip(found[:2], good[:2], strict=True):
        assert np.array_equal(part[[0, 2]], exact[[0, 2]])
        assert np.isnan(part[1]).all()
    assert np.array_equal(found[2][:, [0, 2]], good[2][:, [0, 2]])


def test_traces_of_any_magnitude():
    """400 stages of A = e^10: the raffinate carries e^-4000 of the feed, exactly."""
    n = 400
    feed = np.zeros((2, 1, n, 1))
    feed[0, 0, -1] = 1.0
    fluxes = chains.solve(
        chains.Chain(feed=feed, draw=np.zeros((2, 1, n, 1))), np.full((1, n, 1), 10.0)
    )
    # 1/x = 1 + A + ... + A^n
    exact = -(n * 10.0 - np.log1p(-np.exp(-10.0)))
    assert fluxes.down[0, 0, 0] == pytest.approx(exact, abs=1e-9)
    assert (
        chains.local_closure(chains.Chain(feed=feed, draw=np.zeros((2, 1, n, 1))), fluxes).max()
        < 1e-10
    )


# --- the circuit ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "inputs",
    [
        benchmark(20, 4),
        benchmark(100, 4),
        magnet("Tb", (8, 8, 4)),
        magnet("Nd", (8, 8, 4)),
        magnet("Nd", (50, 55, 15)),
        closed(SERIES, np.ones(15), "Sm", (40, 45, 15), reflux=0.4, ratio=2.5),
    ],
    ids=["open 20", "open 100", "magnet 20", "Nd/Pr 20", "Nd/Pr 120", "15 elements 100"],
)
def test_circuits_converge_and_close(inputs):
    result = solve(inputs)
    assert result.fallbacks == 0
    for closure in result.closure.values():
        assert np.max(closure) < 1e-10
    model = inputs.model
    # Dimer and charge, from free and bound amounts.
    dimer = result.free[..., 0] + result.conc_org @ model.dimers
    assert np.allclose(dimer, inputs.dimer, rtol=1e-10, atol=0)
    assert np.all(result.free > 0)
    metals = result.conc_aq @ model.charge
    anions = sum(
        np.asarray(i.flow) * (np.asarray(i.acid) + i.conc @ model.charge) for i in inputs.inlets
    )
    out = sum(
        o.flow * (o.proton + o.moles @ model.charge / o.flow)
        for o in result.outlets.values()
        if o.phase == "aqueous"
    )
    assert out == pytest.approx(anions, rel=1e-10)
    assert np.all(metals + result.proton > 0)
    # Distribution ratios at every stage.
    ratio = np.log(result.free[..., 0] / result.proton)[..., None]
    log_d = result.log_organic - result.log_aqueous
    log_d = log_d - np.log(result.flow_org / result.flow_aq)[..., None]
    assert np.allclose(log_d, model.log_k + model.charge * ratio, rtol=0, atol=1e-6)
    # The loading limit: one sixth of the formal extractant.
    rare = result.conc_org[..., :-1].sum(axis=-1)
    assert np.all(rare < 2 * inputs.dimer / 6)


def test_sodium_released_is_three_times_the_rare_earths_and_the_protons():
    inputs = magnet("Nd", (20, 20, 6))
    result = solve(inputs)
    n = 40
    organic = result.organic[n - 1]
    fresh = result.supplied[-1]
    returned = result.recycle[:-1] * inputs.inlets[0].flow * inputs.inlets[0].conc[:-1]
    released = fresh + result.recycle[-1] * fresh - organic[-1]
    extracted = (organic[:-1] - returned).sum()

    # Protons on the organic: two per free dimer, one per soap, three per metal (of six).
    def protons(flow_org, free, metal, sodium):
        return flow_org * 2 * free + 3 * metal + sodium

    before = protons(
        result.flow_org[0],
        inputs.dimer - 350.0 - 3 * returned.sum() / result.flow_org[0],
        returned.sum(),
        350.0 * result.flow_org[0],
    )
    after = protons(result.flow_org[n - 1], result.free[n - 1, 0], organic[:-1].sum(), organic[-1])
    assert released == pytest.approx(3 * extracted + (after - before), rel=1e-9)


def test_heavier_is_more_extracted():
    result = solve(closed(SERIES, np.ones(15), "Sm", (10, 12, 5), reflux=0.4, ratio=2.5))
    ratios = result.log_organic - result.log_aqueous
    assert np.all(np.diff(ratios[:, :15], axis=1) > 0)


def test_random_first_guesses_give_the_same_answer():
    inputs = magnet("Tb", (10, 10, 4))
    reference = solve(inputs)
    rng = np.random.default_rng(3)
    for _ in range(5):
        noise = rng.normal(0.0, np.sqrt(2.0), reference.u.shape)
        other = solve(inputs, guess=reference.u + noise)
        for name, outlet in reference.outlets.items():
            assert np.allclose(other.outlets[name].moles, outlet.moles, rtol=3e-12, atol=0)


def test_permutation():
    inputs = magnet("Nd", (12, 12, 4))
    order = np.array([2, 0, 4, 1, 3])
    swapped = replace(
        inputs,
        components=tuple(inputs.components[i] for i in order),
        model=CationExchange(
            log_k=inputs.model.log_k[order],
            charge=inputs.model.charge[order],
            dimers=inputs.model.dimers[order],
        ),
        charge=inputs.charge[order],
        organic_conc=inputs.organic_conc[order],
        inlets=tuple(replace(i, conc=i.conc[order]) for i in inputs.inlets),
    )
    a, b = solve(inputs), solve(swapped)
    assert np.allclose(a.log_aqueous[:, order], b.log_aqueous, rtol=0, atol=3e-12)


def test_rescaling_time_and_amount():
    """Flows in another unit of time, and everything with another unit of volume flow."""
    inputs = magnet("Nd", (12, 12, 4))
    factor = 86400.0
    scaled = replace(
        inputs,
        organic_flow=inputs.organic_flow * factor,
        inlets=tuple(replace(i, flow=i.flow * factor) for i in inputs.inlets),
    )
    a, b = solve(inputs), solve(scaled)
    assert np.allclose(a.log_aqueous + np.log(factor), b.log_aqueous, rtol=0, atol=3e-12)
    assert np.allclose(a.ph, b.ph, rtol=0, atol=1e-11)


def test_batch_members_are_independent():
    inputs = magnet("Nd", (10, 10, 4))
    acids = np.array([900.0, 1000.0, 1200.0])
    scrub = replace(inputs.inlets[1], acid=acids)
    together = solve(replace(inputs, inlets=(inputs.inlets[0], scrub, inputs.inlets[2])))
    assert together.ph.shape == (3, 24)
    for i, acid in enumerate(acids):
        one = replace(inputs.inlets[1], acid=acid)
        alone = solve(replace(inputs, inlets=(inputs.inlets[0], one, inputs.inlets[2])))
        assert np.allclose(together.log_aqueous[i], alone.log_aqueous, rtol=0, atol=3e-12)
    fewer = replace(inputs.inlets[1], acid=acids[:2])
    fewer = solve(replace(inputs, inlets=(inputs.inlets[0], fewer, inputs.inlets[2])))
    assert np.allclose(fewer.log_aqueous, together.log_aqueous[:2], rtol=0, atol=3e-12)


def test_trace_loading_is_kremser():
    """A trace in a large amount of acid sees the same extraction factor everywhere."""
    n, acid, dimer, log_k = 7, 300.0, 500.0, np.log(0.5)
    model = CationExchange(log_k=np.array([log_k]), charge=np.array([3.0]), dimers=np.array([3.0]))
    feed = Inlet(
        name="feed", section="extraction", stage=n, flow=1e-6, conc=np.array([1e-9]), acid=acid
    )
    result = solve(
        CircuitInputs(
            components=("Nd",),
            model=model,
            charge=np.array([3.0]),
            sections=(Section(name="extraction", stages=n),),
            organic_flow=1e-6,
            dimer=dimer,
            organic_conc=np.array([0.0]),
            inlets=(feed,),
        )
    )
    factor = np.exp(log_k) * (dimer / acid) ** 3
    expected = (factor - 1) / (factor ** (n + 1) - 1)
    found = result.outlets["raffinate"].moles[0] / (1e-6 * 1e-9)
    assert found == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("log_k", [-300.0, 300.0])
def test_limits_of_distribution(log_k):
    """Nothing or everything is extracted."""
    inputs = magnet("Tb", (5, 5, 3))
    model = replace(inputs.model, log_k=np.append(np.full(4, log_k), LOG_K_SODIUM))
    open_loop = replace(
        inputs,
        organic_flow=10 * inputs.organic_flow,
        model=model,
        closed=False,
        sections=inputs.sections[:2],
        inlets=inputs.inlets[:2],
    )
    result = solve(open_loop)
    share = result.outlets["raffinate"].moles[:4] / (
        inputs.inlets[0].flow * inputs.inlets[0].conc[:4]
    )
    if log_k < 0:
        assert np.allclose(share, 1.0, rtol=1e-9)
    else:
        assert np.all(result.outlets["raffinate"].log_moles[:4] < -20)


def test_efficiency_carry_and_draws():
    inputs = magnet("Nd", (10, 10, 4))
    sections = (
        replace(inputs.sections[0], efficiency=0.9, carry_aq=0.01, carry_org=0.005),
        replace(inputs.sections[1], efficiency=np.array([0.9, 0.95, 1.0, 1.0, 1.0])),
        inputs.sections[2],
    )
    draws = (
        Draw(
            name="middle",
            phase="organic",
            section="scrub",
            stage=3,
            flow=0.02 * inputs.organic_flow,
        ),
    )
    ideal, real = solve(inputs), solve(replace(inputs, sections=sections))
    assert max(v.max() for v in real.closure.values()) < 1e-10

    def purity(result):
        moles = result.outlets["strip"].moles[:4]
        return moles[1:].sum() / moles.sum()

    assert purity(real) < purity(ideal)
    drawn = solve(replace(inputs, sections=sections, draws=draws))
    assert max(v.max() for v in drawn.closure.values()) < 1e-10
    assert drawn.outlets["middle"].moles.sum() > 0


def test_reflux_of_strip_liquor():
    inputs = magnet("Nd", (10, 10, 4))
    result = solve(replace(inputs, reflux=(("strip", "scrub", 0.3),)))
    assert max(v.max() for v in result.closure.values()) < 1e-10


def test_weak_strip_is_reported_by_its_recycle():
    """Lutetium that the acid hardly removes comes back with the organic, many times its feed."""
    strong = solve(closed(SERIES, np.ones(15), "Sm", (10, 12, 8), reflux=0.4, ratio=2.5))
    weak = solve(
        closed(SERIES, np.ones(15), "Sm", (10, 12, 8), reflux=0.4, ratio=2.5, strip=5000.0)
    )
    assert weak.recycle[14] > 3 * strong.recycle[14] > 0
    assert np.all(weak.recycle[:10] < 1e-2)


def test_refusals():
    inputs = magnet()
    with pytest.raises(InputError) as caught:
        solve(
            replace(
                inputs,
                dimer=-1.0,
                inlets=(
                    replace(inputs.inlets[0], stage=99, flow=0.0),
                    replace(inputs.inlets[1], section="nowhere"),
                ),
            )
        )
    assert len(caught.value.problems) == 4
    with pytest.raises(InputError, match="no aqueous flow in section 'strip'"):
        solve(replace(inputs, inlets=inputs.inlets[:2]))


def test_failure_tells_what_piles_up():
    """Strip acid far too weak for the heavy elements: no steady state."""
    with pytest.raises(ConvergenceError) as caught:
        solve(closed(SERIES, np.ones(15), "Sm", (6, 6, 4), reflux=0.4, ratio=20.0, strip=3000.0))
    trace = caught.value.trace
    assert trace.component in SERIES[7:]
    assert trace.stage
    assert "strip acid" in trace.advice
    # The arithmetic is in the message: soap, acid, three equivalents a mole of metal, in mol/h.
    said = str(caught.value)
    assert trace.advice not in said
    assert "guess" not in said + trace.advice
    soap, acid, metals = said.split("mol/h: ")[-1].split("; ")
    inputs = closed(SERIES, np.ones(15), "Sm", (6, 6, 4), reflux=0.4, ratio=20.0, strip=3000.0)
    for text, amounts in (
        (acid, {i.name: i.flow * i.acid for i in inputs.inlets}),
        (metals, {i.name: i.flow * float(np.dot(inputs.charge, i.conc)) for i in inputs.inlets}),
    ):
        brought = dict(part.rsplit(" ", 1) for part in text.partition("(")[2][:-1].split(", "))
        assert list(brought) == list(amounts)
        for name, amount in amounts.items():
            assert float(brought[name]) == pytest.approx(3600 * amount, rel=1e-4)
    bound = inputs.organic_flow * float(np.dot(inputs.charge, inputs.organic_conc))
    assert float(soap.removeprefix("soap ")) == pytest.approx(3600 * bound, rel=1e-4)


def test_too_little_acid_for_the_soap_is_said_so():
    """All acid leaves as acid but for what turns soap back: with less of it there is no steady
    state."""
    inputs = magnet()
    weak = replace(inputs.inlets[-1], acid=0.05 * inputs.inlets[-1].acid)
    with pytest.raises(ConvergenceError, match=r"less acid .* than soap") as caught:
        solve(replace(inputs, inlets=(*inputs.inlets[:-1], weak)))
    assert caught.value.trace.extra["inlet"] == weak.name
    assert weak.name in caught.value.trace.advice
