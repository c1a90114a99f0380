"""Start-up policies, and slow modes."""

import copy

import numpy as np
import pytest
from scipy.integrate import solve_ivp
from trains_for_tests import binary, circuit_train, integrated

from sepmodel import load, run
from sepmodel.data import Book
from sepmodel.errors import InfeasibleError, InputError
from sepmodel.extraction import cascade
from sepmodel.extraction.dynamics import solve
from sepmodel.extraction.dynamics.integrate import Options
from sepmodel.extraction.dynamics.kernel import Kernel
from sepmodel.extraction.dynamics.leading import on_circuit
from sepmodel.extraction.dynamics.modes import slow_modes
from sepmodel.extraction.dynamics.policies import (
    Lead,
    Outcome,
    Policy,
    best,
    best_lead,
    by,
    outcome,
)
from sepmodel.extraction.dynamics.schedule import Schedule
from sepmodel.extraction.dynamics.simulate import Run, Specification, simulate

SPECS = tuple(
    Specification(outlet=outlet, component=component, least=0.99, weights=(1.0, 1.0))
    for outlet, component in (("loaded_organic", 0), ("raffinate", 1))
)


def independently(train, product, duration, until):
    """Purities of both ends by an explicit method of high order, the scrub switched by hand."""
    beta, n = 1.5, 39
    base = train.settings
    aq, org = train.hold_aq, train.hold_org

    def flows(scrub):
        from dataclasses import replace

        problem = cascade.prepare(replace(train.inputs, scrub=scrub))
        return problem.aqueous_flux[:, 0], problem.organic_flux[:, 0]

    def x_of(m):
        a, b = aq * (beta - 1), aq + beta * org - (beta - 1) * m
        return (-b + np.sqrt(b * b + 4 * a * m)) / (2 * a)

    def rates(t, m, down, up):
        x = x_of(m)
        l, v = down * x, up * beta * x / (1 + (beta - 1) * x)  # noqa: E741
        out = -l - v
        out[:-1] += l[1:]
        out[1:] += v[:-1]
        out[19] += 0.75
        return out

    m = aq * 0.75 + org * beta * 0.75 / (1 + 0.75 * (beta - 1))
    times, ends = [], []
    for start, stop, scrub in (
        (0, duration, base["solvent"] - min(product, 1 - 1e-9)),
        (duration, until, base["scrub"]),
    ):
        solved = solve_ivp(
            rates, (start, stop), m, method="DOP853", rtol=1e-8, atol=1e-10, args=flows(scrub),
            dense_output=True,
        )  # fmt: skip
        m = solved.y[:, -1]
        t = np.linspace(start, stop, 4001)
        x = np.array([x_of(c) for c in solved.sol(t).T])
        times.append(t)
        ends.append(np.stack([beta * x[:, -1] / (1 + (beta - 1) * x[:, -1]), 1 - x[:, 0]], axis=1))
    assert n == m.size
    return np.concatenate(times), np.concatenate(ends)


def test_a_policy_much_faster_than_feed_alone_independently_confirmed():
    train = binary()
    plain = outcome(train, Policy(), SPECS, 12000.0)
    policy = Policy(kind="split", product=1.0, duration=284.0)
    led = outcome(train, policy, SPECS, 6000.0)
    assert led.time < plain.time / 1.5
    times, ends = independently(train, 1.0, 284.0, 600.0)
    for i in (0, 1):
        off = np.flatnonzero(ends[:, i] < 0.99)
        assert led.lasting[i] == pytest.approx(times[off[-1] + 1], rel=0.01)


def test_the_optimiser_finds_it():
    found, tried = best(
        binary(), SPECS, 6000.0, products=(0.95, 1.0), durations=(220.0, 300.0), rounds=2, rtol=1e-3
    )
    assert found.time < 360
    assert found.time == min(o.time for o in tried)


def test_what_never_meets_a_specification_is_not_the_best():
    """Where nothing leaves, nothing is off specification."""
    idle, good = (
        Outcome(policy=Policy(), first=(t,), lasting=(t,), time=t, missed=m, off=off)
        for t, m, off in ((np.inf, 9.0, 0.0), (5.0, 5.0, 2.0))
    )
    for goal in ("time", "missed", "off"):
        assert min((idle, good), key=by(goal)) is good


def test_staged_filling_lets_nothing_out_that_is_off_specification():
    """From total reflux to the whole feed in four steps, all of it to one end meanwhile."""
    staged = Policy(kind="staged", duration=600.0, product=1.0, steps=4)
    base = binary().settings
    levels = [e.value for e in staged.events(base) if e.setting == "inlet.feed.flow"]
    assert levels == pytest.approx([0.0, 0.25, 0.5, 0.75], abs=1e-8)
    found = outcome(binary(), staged, SPECS, 3000.0)
    split = outcome(binary(), Policy(kind="split", product=1.0, duration=284.0), SPECS, 3000.0)
    # On specification before, but only then the feed runs whole.
    assert max(found.lasting) < found.time == 600
    assert split.time < found.time
    assert found.off < 0.001 * split.off


def test_a_circuit_is_led_and_the_best_lead_found():
    """Less scrub acid at first keeps the raffinate's own element in the train."""
    train = circuit_train()
    wanted = [Specification(outlet="raffinate", component=1, least=0.6, weights=(1.0, 1.0, 0.0))]
    day = 86400.0
    plain = outcome(train, Lead(factors={}, duration=0.0), wanted, 0.5 * day, rtol=1e-5)
    for goal, rounds in (("time", 1), ("missed", 0), ("off", 0)):
        found, tried = best_lead(
            train, "inlet.scrub-acid.flow", wanted, 0.5 * day,
            factors=(0.8, 1.1), durations=(3000.0,), rounds=rounds, rtol=1e-3, goal=goal,
        )  # fmt: skip
        assert len(tried) > 2
        assert getattr(found, goal) == min(getattr(o, goal) for o in tried)
        again = outcome(train, found.policy, wanted, 0.5 * day, rtol=1e-7)
        assert again.time == pytest.approx(found.time, rel=2e-3)
        assert again.time < 0.9 * plain.time
    # Nothing held stays the answer where every lead is worse.
    found, _ = best_lead(
        train, "inlet.scrub-acid.flow", wanted, 0.5 * day, factors=(1.2,), durations=(7200.0,),
        rounds=0,
    )  # fmt: skip
    assert found.policy.duration == 0


def circuit_case(**start):
    """Ten stages of the shipped circuit, three days, its raffinate to be 57 % Pr."""
    document = copy.deepcopy(dict(load("upsets-pr-nd").document))
    for section, stages in zip(document["section"], (4, 4, 2), strict=True):
        section["stages"] = stages
    document |= {"event": [], "start": {"fill": "feed", **start}}
    document["time"] = {"end": "3 d", "tolerance": 1e-3, "outputs": 64, "maps": 8}
    document["specification"] = [{"outlet": "raffinate", "component": "Pr", "purity": 0.57}]
    return document


def test_policies_of_a_circuit_do_what_they_say():
    """The scrub acid of a split is one at which the steady solver finds that split."""
    made = solve.assemble(load(circuit_case()).inputs, Book())
    base = made.train.settings
    for part in (0.7, 0.9):
        policy = on_circuit(made.train, Policy(kind="split", product=part, duration=1.0))
        (event,) = policy.events(base)
        assert event.setting == "inlet.scrub-acid.flow"
        x, _, _ = made.train.steady(base | {event.setting: event.value})
        net = made.train.network(base | {event.setting: event.value})
        raffinate = net.flow[0, 0] * x[0, :4].sum()
        assert 1 - raffinate / net.feed[0].sum(axis=0)[:4].sum() == pytest.approx(part, abs=0.01)
    closed = run(circuit_case(policy="reflux", duration="3 d"))
    trickle = sum(closed.profiles[f"flow_{end}"].values[-1, :4].sum()
                  for end in ("raffinate", "strip_liquor"))  # fmt: skip
    open_ = run(circuit_case())
    through = sum(open_.profiles[f"flow_{end}"].values[-1, :4].sum()
                  for end in ("raffinate", "strip_liquor"))  # fmt: skip
    assert through == pytest.approx(1.0, rel=0.02)
    assert trickle < 0.02
    assert closed.balance["max"] < 1e-11


@pytest.mark.slow
def test_a_circuits_policy_is_faster_confirmed_by_a_program_of_its_own():
    hour = 3600.0
    train = circuit_train(closed=False, stages=(6, 5, 2))
    wanted = [Specification(outlet="raffinate", component=1, least=0.68, weights=(1.0, 1.0, 0.0))]
    plain = outcome(train, Policy(), wanted, 20 * hour, rtol=1e-6)
    policy = on_circuit(train, Policy(kind="split", product=1.0, duration=4100.0))
    led = outcome(train, policy, wanted, 20 * hour, rtol=1e-6)
    assert led.time < plain.time / 1.5
    base = train.settings
    (event,) = policy.events(base)
    for stretches, ours in (
        ([(base, 2.2 * hour)], plain),
        ([(base | {event.setting: event.value}, 4100.0), (base, 0.2 * hour)], led),
    ):
        times, x, _ = integrated(train, stretches, moments=100)
        share = x[:, 0, 1] / x[:, 0, :2].sum(axis=1)
        i = np.flatnonzero(share < 0.68)[-1]
        part = (0.68 - share[i]) / (share[i + 1] - share[i])
        after = times[i] + part * (times[i + 1] - times[i])
        assert ours.lasting[0] == pytest.approx(after, rel=1e-3)


def test_staged_filling_of_a_circuit():
    staged = on_circuit(
        solve.assemble(load(circuit_case()).inputs, Book()).train,
        Policy(kind="staged", product=0.9, duration=8.0, steps=4),
    )
    base = {"inlet.feed.flow": 2.0, "inlet.scrub-acid.flow": 1.0}
    levels = [(e.start, e.value) for e in staged.events(base) if e.setting == "inlet.feed.flow"]
    assert levels == [(0.0, pytest.approx(0.0, abs=1e-8)), (2.0, 0.5), (4.0, 1.0), (6.0, 1.5)]
    acids = [e.value for e in staged.events(base) if e.setting == "inlet.scrub-acid.flow"]
    # Every quarter of the feed gives way to as much less acid.
    assert np.diff(acids[1:]) == pytest.approx(np.diff(acids[1:])[0])
    assert np.all(np.diff(acids) < 0)
    assert acids[0] > 1.0
    found = run(
        circuit_case(policy="staged", product=0.9, duration="1 d")
        | {"holdup": {"mixer": "0.1 h", "settler": "0.1 h"}}
    )
    assert found.balance["max"] < 1e-11
    assert found.quantities["fed"]["value"] == pytest.approx(72 - 24 * 0.625, rel=1e-6)
    assert found.profiles["purity_raffinate"].bands == {"start: staged": (0.0, 24.0)}


def test_a_lead_found_from_a_file_is_the_one_found_in_python():
    find = {"levels": [0.8, 1.1], "durations": ["3 h", "6 h"], "rounds": 0}
    document = circuit_case(policy="lead", setting="inlet.scrub-acid.flow", find=find)
    found = run(document)
    made = solve.assemble(load(circuit_case()).inputs, Book())
    best_one, tried = best_lead(
        made.train, "inlet.scrub-acid.flow", made.run.specifications, 3 * 86400.0,
        factors=(0.8, 1.1), durations=(3 * 3600.0, 6 * 3600.0), rounds=0,
    )  # fmt: skip
    table = found.profiles["policies"].values
    assert table.shape == (len(tried), 5)
    q = {name: value["value"] for name, value in found.quantities.items()}
    assert q["policy_duration"] * 3600 == pytest.approx(best_one.policy.duration)
    assert q["policy_time"] == pytest.approx(best_one.time / 3600)
    assert q["policy_time"] < q["plain_time"] == pytest.approx(tried[0].time / 3600)
    # The run itself is led by it.
    assert q["raffinate_Pr_0.57_lasting"] == pytest.approx(q["policy_time"], rel=1e-2)
    again = run(
        circuit_case(policy="lead", setting="inlet.scrub-acid.flow",
                     factor=q["policy_level"], duration=f"{q['policy_duration']!r} h")
    )  # fmt: skip
    assert again.quantities["raffinate_Pr_0.57_lasting"]["value"] == pytest.approx(
        q["raffinate_Pr_0.57_lasting"]
    )


@pytest.mark.parametrize(
    ("start", "key", "part"),
    [
        ({"policy": "lead", "factor": 0.9, "duration": "1 d"}, "start.setting", "holds a setting"),
        ({"policy": "split", "duration": "1 d"}, "start.product", "product, or find"),
        ({"policy": "none", "duration": "1 d"}, "start.duration", "policy"),
        ({"policy": "reflux", "find": {"levels": [0.5]}}, "start.find.levels", "no levels"),
        ({"policy": "split", "product": 0.5, "find": {}}, "start.product", "not given"),
        ({"policy": "lead", "setting": "inlet.acid.flow", "factor": 0.9, "duration": "1 d"},
         "start.setting", "strip-acid"),
        ({"policy": "lead", "setting": "organic.saponification", "factor": 3.0, "duration": "1 d"},
         "start.factor", "range"),
        ({"policy": "split", "find": {"durations": ["4 d"]}}, "start.find.durations", "over"),
    ],
)  # fmt: skip
def test_policies_that_cannot_be_are_refused(start, key, part):
    with pytest.raises(InputError) as caught:
        run(circuit_case(**start))
    (problem,) = caught.value.problems
    assert problem.key == key
    assert part in str(problem)


def test_a_policy_needs_an_acid_to_set_and_a_specification_to_find():
    document = circuit_case(policy="reflux", duration="1 d")
    document["inlet"][1] |= {"acid": "0 mol/L"}
    with pytest.raises(InputError, match="set by its scrub acid"):
        run(document)
    with pytest.raises(InputError, match="found for specifications"):
        run(circuit_case(policy="reflux", find={}) | {"specification": []})


def test_more_than_the_scrub_acid_gives_way_for_is_refused():
    case = "start-nd-dy-pitzer"
    given = {"start.policy": "split", "start.product": 1.0, "start.duration": "3 h"}
    with pytest.raises(InputError, match=r"no more than 0\.4\d+ of the feed") as caught:
        run(case, given)
    assert caught.value.problems[0].key == "start.product"
    sought = {"start.find.levels": [1.0], "start.find.durations": ["3 h"]}
    with pytest.raises(InfeasibleError, match="no more than"):
        run(case, {"start.policy": "split", **sought})


def test_slowest_mode_is_the_observed_decay():
    train = binary()
    net = train.network(train.settings)
    kernel = Kernel(net)
    x, y, u = train.steady(train.settings)
    state = np.zeros(kernel.lay.size)
    kernel.lay.split(state)[0][:] = net.mixer[0][:, None] * x + net.mixer[1][:, None] * y
    modes = slow_modes(kernel, state, u)
    # Late in a run the distance to steadiness decays with the slowest mode.
    run = Run(
        train=train, schedule=Schedule(base=train.settings), start="feed", until=60000.0,
        outputs=np.array([40000.0, 44000.0]), options=Options(rtol=1e-8),
    )  # fmt: skip
    far = simulate(run).conc_aq - x
    decay = 4000.0 / np.log(np.abs(far[0]).max() / np.abs(far[1]).max())
    assert modes.times[0] == pytest.approx(decay, rel=0.01)
    # ... and has its shape.
    shape = far[1] / far[1].flat[np.abs(far[1]).argmax()]
    ours = modes.shapes[0] / modes.shapes[0].flat[np.abs(far[1]).argmax()]
    assert ours == pytest.approx(shape, abs=0.02)


def test_modes_from_a_file_tell_the_time_and_where_to_measure():
    found = run("control-nd-pr", {"modes.count": 2, "time.end": "1 d"})
    # 5,962 residence times of 0.2 h.
    assert found.quantities["mode_1_time"]["value"] == pytest.approx(0.2 * 5962, rel=1e-3)
    assert found.quantities["mode_1_stage_Nd"]["value"] == 15
    shapes = found.profiles["mode_shapes"].values
    assert np.abs(shapes).max(axis=(1, 2)) == pytest.approx([1, 1])
    again = run("control-nd-pr", {"modes.count": 2, "time.end": "1 d"})
    assert np.array_equal(shapes, again.profiles["mode_shapes"].values)
    # Where next to no metal is nobody measures: not at the acid end of the strip.
    circuit = run({**circuit_case(), "modes": {"count": 1}, "specification": []})
    stages = [v["value"] for k, v in circuit.quantities.items() if k.startswith("mode_1_stage")]
    assert stages[0] <= 9
    assert circuit.quantities["mode_1_time"]["value"] > 5


def test_modes_of_a_circuit_are_stable():
    train = circuit_train(settler=1.0)
    net = train.network(train.settings)
    run = Run(
        train=train, schedule=Schedule(base=train.settings), start="feed", until=60 * 86400.0,
        outputs=np.array([0.0, 86400.0]),
    )  # fmt: skip
    end = simulate(run).final
    modes = slow_modes(Kernel(net), end.y, end.u)
    assert np.all(modes.times > 0)
