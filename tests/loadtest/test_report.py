import argparse
import json
import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from loadtest.commands import report as report_command
from loadtest.errors import LoadtestError
from loadtest.judge.baseline import compare, load_baseline, save_baseline
from loadtest.judge.breakdown import breakdown, rows
from loadtest.judge.slo import Limits, SLOs
from loadtest.judge.verdict import check
from loadtest.records import OPINION_FILE, RECORDS_FILE, RUN_FILE, SERVER_FILE, Run
from loadtest.report.content import content_of
from loadtest.report.summary import to_markdown
from loadtest.report.write import write_report
from loadtest.second_opinion.compare import kept_opinion
from loadtest.second_opinion.perf_analyzer import save_result
from tests.end_to_end.upload_service import chromium
from tests.loadtest.make_run import PERF_ANALYZER, lognormal, make_run

SLO = SLOs(name="launch", all=Limits(p50_ms=30, p99_ms=100, error_share=0.01), cold=Limits(p95_ms=90))
OUTSIDE = """[...document.querySelectorAll("td")].filter(cell => {
    const card = cell.closest("section").getBoundingClientRect();
    return cell.offsetParent && cell.getBoundingClientRect().right > card.right;
}).map(cell => cell.innerText)"""
"""Cells of a table that a card cuts off."""
PICTURES = ("over-time", "distribution", "against-throughput", "where-the-time-goes", "machine")


def summary(run: Run) -> str:
    """The file of the report that takes no pictures."""
    return to_markdown(content_of(run, check(run, SLO), None, None))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_browser_shows_the_verdict_and_the_pictures(tmp_path: Path, scheme: str) -> None:
    repeats = [make_run(tmp_path / f"now-{i}", lognormal(3000) * (1.5 + i / 100)) for i in range(3)]
    save_baseline(tmp_path / "baseline.json", [make_run(tmp_path / f"b{i}", lognormal(3000, seed=i)) for i in range(3)])
    comparison = compare(load_baseline(tmp_path / "baseline.json"), repeats)
    save_result(repeats[0].folder / OPINION_FILE, PERF_ANALYZER)
    tight = replace(SLO, all=Limits(p50_ms=20, p99_ms=100))
    report = write_report(repeats[0], check(repeats[0], tight), comparison, kept_opinion(repeats[0]))
    with chromium() as browser:
        page = browser.new_page(color_scheme=scheme)  # type: ignore[arg-type]
        wanted: list[str] = []
        problems: list[str] = []
        page.on("request", lambda request: wanted.append(request.url))
        page.on("console", lambda message: problems.append(message.text))
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.goto(report.as_uri())
        assert page.locator("#verdict .word").inner_text() == "FAILED"
        assert "P50 of all requests is" in page.locator("#verdict").inner_text()
        for picture in PICTURES:
            box = page.locator(f"#{picture} svg").bounding_box()
            assert box is not None
            assert box["width"] > 500
            assert box["height"] > 100
        assert page.locator("#over-time").get_by_text("p99 limit").is_visible()
        assert "worse by 5" in page.locator("#comparison").inner_text()
        assert "perf_analyzer" in page.locator("#second-opinion table").inner_text()
        assert "perf_analyzer from when it was sent" in page.locator("#second-opinion").inner_text()
        assert "visual_encoder" in page.locator("#breakdown table").inner_text()
        assert "0123abc" in page.locator("#environment").inner_text()
        ink = page.evaluate("getComputedStyle(document.querySelector('#over-time svg text')).fill")
        assert (max(_channels(ink)) < 128) == (scheme == "light")
        for width in (390, 1000):
            page.set_viewport_size({"width": width, "height": 800})
            assert page.evaluate(OUTSIDE) == []
    assert wanted == [report.as_uri()]
    assert not problems


def test_all_four_files(tmp_path: Path) -> None:
    run = make_run(tmp_path, lognormal(3000))
    write_report(run, check(run, SLO))
    assert json.loads((tmp_path / "verdict.json").read_text())["ok"]
    assert ET.parse(tmp_path / "junit.xml").getroot().tag == "testsuites"
    summary = (tmp_path / "summary.md").read_text()
    assert summary.startswith("# PASSED: Load test: steady\n")
    assert "| all requests | p99 | at most 100 ms |" in summary
    assert "| environment.git" not in summary
    assert "| git | 0123abc |" in summary
    assert "None." in summary


def test_a_report_is_of_the_run_that_it_is_given(tmp_path: Path) -> None:
    """The folder may be damaged, or hold more than the run: nothing of it is read."""
    run = make_run(tmp_path, lognormal(3000))
    for name in (RUN_FILE, RECORDS_FILE, SERVER_FILE, OPINION_FILE):
        (tmp_path / name).write_text("damaged")
    assert "PASSED" in write_report(run, check(run, SLO)).read_text()


def test_errors_are_listed_and_escaped(tmp_path: Path) -> None:
    run = make_run(tmp_path, lognormal(3000), failed=np.arange(3000) < 31)
    page = write_report(run, check(run, SLO)).read_text()
    assert "Unavailable: &lt;no server&gt; answers" in page
    assert "<no server>" not in page
    assert "| Unavailable: &lt;no server&gt; answers | 15 | 0.50 % |" in (tmp_path / "summary.md").read_text()


@pytest.mark.parametrize("words", ["<zebra>", "[zebra](http://a.example)", "`zebra`", r"\[zebra](b)", "&lt;zebra"])
def test_a_servers_words_are_no_markup_of_the_summary(tmp_path: Path, words: str) -> None:
    run = make_run(tmp_path, lognormal(300), failed=np.arange(300) < 31, settings={"server_config": {"name": words}})
    samples = [{**s, "models": {**s["models"], words: s["models"]["classifier"]}, "ended": words} for s in run.samples]
    run = replace(run, records=replace(run.records, errors=(words, words)), samples=samples)
    lines = [line for line in summary(run).splitlines() if "zebra" in line]
    assert len(lines) == 5
    for line in lines:
        assert not re.search(r"(?<!\\)(\\\\)*[\[`]|<|&(?!amp;|lt;|gt;)", line), line


@pytest.mark.parametrize("count", [0, 1])
def test_next_to_nothing_is_reported_too(tmp_path: Path, count: int) -> None:
    run = make_run(tmp_path, np.full(count, 20.0), samples=False)
    page = write_report(run, check(run, SLO)).read_text()
    assert "NOT SHOWN" in page
    assert "No breakdown:" in page


def test_nothing_answered_is_reported_too(tmp_path: Path) -> None:
    run = make_run(tmp_path, np.full(600, 20.0), failed=np.ones(600, dtype=bool))
    assert "FAILED" in write_report(run, check(run, SLO)).read_text()


def test_the_parts_add_up_to_what_the_clients_saw(tmp_path: Path) -> None:
    table = breakdown(make_run(tmp_path, lognormal(3000, median_ms=25)))
    client = table.client
    path = sum(model.total_ms for model in table.path)
    assert path + table.ensemble_ms + table.outside_ms + client.waited_ms == pytest.approx(client.mean_ms)
    assert [model.name for model in table.path] == ["visual_encoder", "classifier"]
    assert [model.name for model in table.aside] == ["preference_encoder"]


def test_what_was_counted_before_the_run_is_left_out(tmp_path: Path) -> None:
    models = {model.name: model for model in breakdown(make_run(tmp_path, lognormal(3000))).models}
    encoder = models["visual_encoder"]
    assert encoder.requests == 3000
    assert encoder.batch == pytest.approx(2)
    assert encoder.cache_hit_share == pytest.approx(0.4)
    assert encoder.parts_ms["infer"] == pytest.approx(12)
    assert encoder.parts_ms["queue"] == pytest.approx(1.5)
    assert models["classifier"].cache_hit_share is None
    assert models["tag_recommender"].request_ms == pytest.approx(17.5)
    heads, lines = rows(breakdown(make_run(tmp_path, lognormal(3000))))
    assert {len(line) for line in lines} == {len(heads)}


def test_latencies_of_other_requests_are_not_explained(tmp_path: Path) -> None:
    """Triton counts what it answered, clients what they waited for: most gave up, or others asked, too."""
    failed = np.arange(200) < 182
    given_up = make_run(tmp_path / "failed", lognormal(200, median_ms=5), failed=failed)
    others = make_run(tmp_path / "others", lognormal(3000, median_ms=5))
    for run, reason in (
        (given_up, "182 of 200 requests failed"),
        (others, "Triton&#39;s times do not fit into them (other callers"),
    ):
        page = write_report(run, check(run, SLO)).read_text()
        assert f"Not comparable with the clients&#39; latencies: {reason}" in page
        assert "clients saw<" not in page
        assert "The upper bar" not in page
        assert not re.search(r">-\d", page)
        table = breakdown(run)
        assert not any(cell.startswith("-") and cell != "-" for line in rows(table)[1] for cell in line)
    run = make_run(tmp_path, lognormal(3000))
    assert "clients saw<" in write_report(run, check(run, SLO)).read_text()


def test_percentiles_of_too_few_requests_are_no_result(tmp_path: Path) -> None:
    run = make_run(tmp_path, np.full(16, 1731.0))
    verdict = check(run, SLO)
    assert "p99 of all requests needs at least 500 answered requests, but there were 16" in verdict.reason
    text = summary(run)
    assert "| all requests | p99 | at most 100 ms | - | 16 | **not enough requests** |" in text
    assert "| p50, ms |" in text
    assert "p99, ms" not in text


def test_a_restarted_server_has_no_breakdown(tmp_path: Path) -> None:
    run = make_run(tmp_path, lognormal(3000))
    with pytest.raises(LoadtestError, match="restarted"):
        breakdown(Run(run.folder, run.settings, run.records, list(reversed(run.samples))))


def _channels(colour: str) -> list[int]:
    return [int(channel) for channel in colour.removeprefix("rgb(").removesuffix(")").split(",")]


def test_the_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    slos = tmp_path / "slos.toml"
    slos.write_text("[all]\np99_ms = 1000\n")
    for i in range(3):
        make_run(tmp_path / f"before-{i}", lognormal(600, seed=i))
        make_run(tmp_path / f"now-{i}", lognormal(600, seed=i) * 2)
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers()
    report_command.add_report_parser(commands).set_defaults(run=report_command.report)
    report_command.add_baseline_parser(commands).set_defaults(run=report_command.baseline)

    def called(*words: str | Path) -> tuple[int, str]:
        arguments = parser.parse_args([*map(str, words)])
        return arguments.run(arguments), capsys.readouterr().out

    saved = tmp_path / "baseline.json"
    assert called("baseline", saved, *(tmp_path / f"before-{i}" for i in range(3)))[0] == 0
    now = [tmp_path / f"now-{i}" for i in range(3)]
    save_result(now[0] / OPINION_FILE, PERF_ANALYZER)
    code, output = called("report", now[0], "--slos", slos)
    assert (code, output.split(":")[0]) == (0, "PASSED")
    assert "## Second opinion: perf_analyzer" in (now[0] / "summary.md").read_text()
    code, output = called("report", now[0], "--slos", slos, "--baseline", saved, "--repeats", *now[1:])
    assert code == 1
    assert "p50 of all requests: worse by 100" in output
