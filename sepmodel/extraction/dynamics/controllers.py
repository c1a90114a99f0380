"""Controllers of a case as loops on a train's settings, and what is wrong with them."""

from __future__ import annotations

from sepmodel import units
from sepmodel.errors import Problem
from sepmodel.extraction.dynamics.control import Loop
from sepmodel.extraction.dynamics.inputs import MOST_LOOKS, Controller, DynamicMassFlowCase
from sepmodel.extraction.dynamics.network import Network
from sepmodel.extraction.dynamics.settings import Paths


def loops(
    paths: Paths,
    weights: tuple[float, ...],
    dry: float,
    net: Network | None,
    labels: dict[str, str],
) -> dict[int, Loop]:
    """Loops of the controllers of a case with which nothing is wrong, by their number.

    What is wrong is noted in ``paths``; an outlet with no more than ``dry`` has no purity.
    """
    out: dict[int, Loop] = {}
    names: set[str] = set()
    moved = {event.setting: said.key for event, said in paths.said.items()}
    for i, given in enumerate(paths.case.controller):
        key, before = f"controller.{i}", len(paths.problems)
        targets = paths.targets(given.setting, f"{key}.setting", None, None)
        outlet = given.outlet or ""
        if outlet:
            outlet = paths.outlet(f"{key}.outlet", outlet, net, labels, weights)
        _measured(paths, key, given, weights)
        if given.name in names:
            paths.refuse(f"{key}.name", given.name, "a name twice", "a name of its own")
        names.add(given.name)
        if len(targets) > 1:
            paths.refuse(f"{key}.setting", given.setting, "these are several settings at once",
                         "a single one")  # fmt: skip
        if len(targets) != 1:
            continue
        setting, scale = targets[0]
        if setting in moved:
            paths.refuse(f"{key}.setting", given.setting, f"moved already by {moved[setting]}",
                         "a setting of its own")  # fmt: skip
        moved[setting] = key
        found = len(paths.problems)
        numbers = {
            name: scale * paths.number(given.setting, getattr(given, name), f"{key}.{name}")
            for name in ("gain", "low", "high")
            if getattr(given, name) is not None
        }
        numbers.setdefault("gain", 0.0)
        unit, per = "1", scale
        if len(paths.problems) == found:
            if isinstance(given.low, str):
                unit = units.split(given.low)[1]
                per = scale * paths.number(given.setting, f"1 {unit}", f"{key}.low")
            shown = {name: number / scale for name, number in numbers.items()}
            design = paths.train.settings[setting]
            _limits(paths, key, given, shown, design / scale, f"{design / per:.6g} {unit}")
        if len(paths.problems) > before:
            continue
        stage = 1
        if given.section is not None:
            stage = paths.sections()[given.section][0] + given.stage
        out[i] = Loop(
            name=given.name,
            measure=given.measure,
            setting=setting,
            target=float("nan") if given.target is None else given.target,
            time=float("inf") if given.time is None else given.time,
            interval=given.interval,
            delay=given.delay,
            stage=stage,
            component=given.component or "",
            outlet=outlet,
            start=given.start,
            weights=weights,
            unit=unit,
            per=per,
            dry=dry if given.measure == "purity" else 0.0,
            **numbers,
        )
    return out


def _limits(
    paths: Paths,
    key: str,
    given: Controller,
    numbers: dict[str, float],
    design: float,
    said: str,
) -> None:
    """Note limits that cannot be, or leave out the design's value, from which a loop begins."""
    for name in ("low", "high"):
        paths.within(given.setting, numbers[name], f"{key}.{name}", getattr(given, name))
    if not numbers["low"] < numbers["high"]:
        paths.refuse(f"{key}.low", given.low, "a controller's limits rise",
                    f"below high, {given.high}")  # fmt: skip
        return
    beyond_it = {"low": numbers["low"] > design, "high": numbers["high"] < design}
    for name, outside in beyond_it.items():
        if outside and paths.designed:
            paths.refuse(
                f"{key}.{name}", getattr(given, name),
                f"{given.setting} of the design is beyond the controller's limits",
                f"at {'most' if name == 'low' else 'least'} {said.removesuffix(' 1')}",
            )  # fmt: skip
    if given.gain is not None and numbers["gain"] == 0.0:
        paths.refuse(f"{key}.gain", given.gain, "a controller without a gain does nothing",
                    "more or less than zero")  # fmt: skip


def _measured(paths: Paths, key: str, given: Controller, weights: tuple[float, ...]) -> None:
    """Note what a controller cannot measure, or would look at too often."""
    if given.measure == "pH" and isinstance(paths.case, DynamicMassFlowCase):
        paths.problems.append(
            Problem(
                message="the mass-flow model knows no pH",
                key=f"{key}.measure",
                value="pH",
                expected='"share_aq", "share_org" or "purity"',
            )
        )
    if given.component is not None:
        paths.counted(f"{key}.component", given.component, weights)
    if given.section is not None:
        count = paths.sections().get(given.section, (0, 0))[1]
        if not count:
            paths.refuse(f"{key}.section", given.section, "no such section",
                        f"one of {', '.join(paths.sections())}")  # fmt: skip
        elif given.stage > count:
            paths.refuse(f"{key}.stage", given.stage, f"no such stage of {given.section}",
                        f"1 to {count}")  # fmt: skip
    looks = (paths.case.time.end - given.start) / given.interval
    if looks > MOST_LOOKS:
        paths.problems.append(
            Problem(
                message=f"the controller would look {looks:.3g} times",
                key=f"{key}.interval",
                value=given.interval,
                expected=f"at most {MOST_LOOKS} looks, one in "
                f"{(paths.case.time.end - given.start) / MOST_LOOKS:.3g} s",
            )
        )
