"""A verdict as JUnit XML, which pipelines show beside their other tests."""

import xml.etree.ElementTree as ET

from loadtest.judge.verdict import Outcome, Verdict


def to_junit(verdict: Verdict, *, duration_s: float) -> str:
    """Write one test case per objective, and one or two for the run. Missed is a failure, not shown is an error."""
    objectives = verdict.objectives
    ended = verdict.ended_early
    missed = sum(objective.outcome is Outcome.MISSED for objective in objectives)
    suite = ET.Element(
        "testsuite",
        name=f"loadtest.{verdict.slos.name}",
        tests=str(len(objectives) + 1 + bool(verdict.worker_faults)),
        failures=str(missed),
        errors=str(
            sum(not objective.ok for objective in objectives)
            - missed
            + (ended is not None)
            + bool(verdict.worker_faults)
        ),
        skipped="0",
        time=f"{duration_s:.3f}",
    )
    whole = ET.SubElement(suite, "testcase", classname=f"loadtest.{verdict.slos.name}.run", name="lasted to its end")
    if ended is not None:
        ET.SubElement(whole, "error", type="ended early", message=ended)
    if verdict.worker_faults:
        case = ET.SubElement(suite, "testcase", classname=f"loadtest.{verdict.slos.name}.run", name="workers kept up")
        ET.SubElement(case, "error", type="not valid", message="; ".join(verdict.worker_faults))
    for objective in objectives:
        case = ET.SubElement(
            suite,
            "testcase",
            classname=f"loadtest.{verdict.slos.name}.{objective.group}",
            name=f"{objective.metric} {objective.bound}",
        )
        if not objective.ok:
            kind = "failure" if objective.outcome is Outcome.MISSED else "error"
            ET.SubElement(case, kind, type=objective.outcome.value, message=objective.sentence)
    suites = ET.Element("testsuites")
    suites.append(suite)
    ET.indent(suites)
    return ET.tostring(suites, encoding="utf-8", xml_declaration=True).decode() + "\n"
