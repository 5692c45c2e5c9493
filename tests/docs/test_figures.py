"""Numbers in the README and the guides are those of the files that they come from."""

import json
import math
import re
import statistics
import tomllib

import pytest

import configs.imagenet_resnet50_v1d
from tests.docs.documents import DOCUMENTS, ROOT

README = DOCUMENTS["README.md"]
RESULTS = DOCUMENTS["docs/results.md"]
BENCHMARKS = (ROOT / "benchmarks" / "README.md").read_text()


def tables(name):
    """Return the tables of a benchmark by heading."""
    return json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_text())["tables"]


def variants(name):
    """Return the variants of a comparison by label."""
    content = json.loads((ROOT / "notebooks" / "results" / f"{name}.json").read_text())
    return {variant["variant"]["label"]: variant for variant in content["variants"]}


def percents(variant):
    return [100 * variant["values"][seed] for seed in sorted(variant["values"])]


def mean_of(variant):
    """Return a pattern of mean ± standard deviation; the mean may be bold."""
    mean, deviation = statistics.fmean(percents(variant)), statistics.stdev(percents(variant))
    return rf"(\*\*)?{mean:.2f}(\*\*)? ± {deviation:.2f}"


SECTIONS = {
    "compare_digits": "Handwritten digits",
    "compare_scales": "Handwritten digits",
    "compare_scenes": "Scenes of digits",
    "compare_cifar10": "CIFAR-10",
}


@pytest.mark.parametrize(("name", "section"), SECTIONS.items())
def test_results_are_those_of_the_runs(name, section):
    text = RESULTS.partition(f"## {section}")[2].partition("\n## ")[0]
    for label, variant in variants(name).items():
        written = re.escape(label.replace("+", " + ")) if "+" in label else f"`{label}`"
        values = re.escape(" ".join(f"{value:.2f}" for value in percents(variant)))
        row = (
            rf"\| {written} \| {values} \| {mean_of(variant)} "
            rf"\| {variant['variant']['parameters']:,} \|"
        )
        assert re.search(row, text), label


def test_readme_has_the_results_of_the_main_fusions():
    digits, scenes = variants("compare_digits"), variants("compare_scenes")
    three = [digits[name] for name in ("add", "aff", "iaff")]
    accuracy = r" \| ".join(map(mean_of, three))
    assert re.search(rf"8x8 pixels, test accuracy, % \| {accuracy} \|", README)
    iou = r" \| ".join(mean_of(scenes[name]) for name in ("add", "aff", "iaff"))
    assert re.search(rf"test mean IoU, % \| {iou} \|", README)
    cifar10 = variants("compare_cifar10")
    accuracy = r" \| ".join(mean_of(cifar10[name]) for name in ("add", "aff", "iaff"))
    assert re.search(rf"CIFAR-10, 8 epochs, test accuracy, % \| {accuracy} \|", README)


def test_readme_has_the_differences_of_aff_to_addition():
    """With the intervals of Student's t distribution, whose 97.5 % quantile is 4.303 for n = 3."""
    for name, fusion, text in (
        ("compare_cifar10", "aff", "{} points on CIFAR-10"),
        ("compare_cifar10", "iaff", "{} points on CIFAR-10"),
        ("compare_digits", "aff", "{} on digits"),
        ("compare_scenes", "aff", "{} on scenes"),
    ):
        other, add = (percents(variants(name)[key]) for key in (fusion, "add"))
        differences = [x - y for x, y in zip(other, add, strict=True)]
        half = 4.303 * statistics.stdev(differences) / math.sqrt(3)
        text = text.format(f"{statistics.fmean(differences):.2f} ± {half:.2f}")
        assert text in " ".join(README.split()), text
        if name == "compare_cifar10":
            assert text.removesuffix(" points on CIFAR-10") in RESULTS, text


def test_oldest_versions_are_tested_and_allowed():
    table = DOCUMENTS["docs/deploy.md"].partition("## Versions")[2]
    oldest = dict(re.findall(r"^\| (\w+) \| ([\d.]+) \| [\d.]+ \|$", table, re.MULTILINE))
    minimum = (ROOT / "tests" / "minimum.txt").read_text()
    pinned = dict(re.findall(r"^(\w+)==(\S+)$", minimum, re.MULTILINE))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    allowed = dict(entry.split(">=") for entry in project["dependencies"])
    assert project["requires-python"] == f">={oldest.pop('Python')}"
    assert oldest.keys() == {"JAX", "Flax", "NumPy"}
    for name, version in oldest.items():
        assert pinned[name.lower()] == version
        assert version.startswith(allowed[name.lower()])


def test_speeds_are_those_of_the_benchmarks():
    """A range contains the committed measurement; a single ratio is within 30 % of it."""
    rows = {
        (name.split(",")[0], row["module"], row["side"]): row
        for name, table in tables("modules").items()
        if name.endswith("geometric mean over the shapes")
        for row in table
    }
    written = {
        "| evaluation, [frozen](deploy.md) |": ("Evaluation", "AFF", "frozen"),
        "| evaluation, frozen, one device per core |": ("Evaluation", "AFF", "frozen, 2 devices"),
        "| training |": ("Training", "AFF", "aff_jax"),
    }
    for start, key in written.items():
        (line,) = (line for line in RESULTS.splitlines() if line.startswith(start))
        eager, compiled = line.removeprefix(start).strip(" |").split(" | ")
        measured = rows[key]["times PyTorch eager, faster layout"]
        low, _, high = eager.partition(" to ")
        if high:
            assert float(low) <= round(measured, 1) <= float(high)
        else:
            assert measured == pytest.approx(float(low), rel=0.3)
        assert rows[key]["times torch.compile"] == pytest.approx(float(compiled), rel=0.3)


def test_costs_of_aff_are_those_of_the_benchmark():
    rows = tables("networks")["What a fusion costs over addition in a training step"]
    for column, pattern in (
        ("aff_jax: step / add's", r"takes ([\d.]+) to ([\d.]+) times as long as with addition"),
        ("aff_jax: peak memory / add's", r"\[([\d.]+) to ([\d.]+) times the memory\]"),
    ):
        ratios = [row[column] for row in rows if row["fusion"] == "aff"]
        assert len(ratios) == 4
        written = re.search(pattern, README)
        assert [f"{min(ratios):.2f}", f"{max(ratios):.2f}"] == [written[1], written[2]]


def test_plans_are_those_of_the_compiler():
    plans = {(row["config"], row["slice"]): row for row in tables("plans")["recipes"]}
    written = re.findall(
        r"^\| `(\w+)\.py`.* \| \d+ chips, `(.*)` \| ([\d.]+) GiB \| ([\d.]+) (\w+) \| ([\d.]+) \|$",
        README,
        re.MULTILINE,
    )
    assert written
    for config, slice_, memory, time, unit, ratio in written:
        plan = plans[config, slice_]
        hours = float(time) / {"hours": 1, "minutes": 60}[unit]
        assert plan["fits"] == "yes"
        assert float(memory) == pytest.approx(plan["GiB per chip"], rel=0.05)
        assert hours == pytest.approx(plan["hours"], rel=0.05)
        assert float(ratio) == pytest.approx(plan["step over add"], rel=0.01)


def test_the_guide_has_all_plans():
    table = DOCUMENTS["docs/plan.md"].partition("## The recipes")[2]
    written = re.findall(
        r"^\| `(\w+)` \| `(\S+)` \| (\d+) \| ([\d.]+) GiB \| ([\d.]+) ms \| ([\d.]+) ms "
        r"\| ([\d.]+) (s|min|h) \| ([\d.]+) \|$",
        table,
        re.MULTILINE,
    )
    rows = {(row["config"], row["slice"]): row for row in tables("plans")["recipes"]}
    assert {(config, slice_) for config, slice_, *_ in written} == rows.keys()
    for config, slice_, batch, memory, step, exchange, time, unit, ratio in written:
        plan = rows[config, slice_]
        assert plan["fits"] == "yes"
        assert int(batch) == plan["batch per chip"]
        assert float(memory) == pytest.approx(plan["GiB per chip"], rel=0.02, abs=0.005)
        assert float(step) == pytest.approx(plan["step ms"], rel=0.03)
        assert float(exchange) == pytest.approx(plan["of it communication"], rel=0.03, abs=0.05)
        seconds = float(time) * {"s": 1, "min": 60, "h": 3600}[unit]
        assert seconds == pytest.approx(3600 * plan["hours"], rel=0.05)
        assert float(ratio) == pytest.approx(plan["step over add"], rel=0.01)


def test_the_feed_that_a_tpu_slice_needs():
    plan = next(
        row
        for row in tables("plans")["recipes"]
        if (row["config"], row["slice"]) == ("imagenet_resnet50_v1d", "v5e:4x4")
    )
    text = " ".join(DOCUMENTS["docs/tpu.md"].split())
    speed = plan["images/s"]
    assert (
        f"step of {plan['step ms']:.0f} ms takes {speed:,.0f} images/s, "
        f"which is {speed / 4:,.0f} images/s on each of four machines" in text
    )
    decoded = re.search(r"decodes (\d+) JPEG images/s", BENCHMARKS)
    assert f"resizes {decoded[1]} images/s" in text
    workers = math.ceil(speed / 4 / int(decoded[1]))
    assert f"so {workers} processes suffice" in text
    assert configs.imagenet_resnet50_v1d.get_config().data_workers >= workers
    planned = f"planned step of `imagenet_resnet50_v1d.py` on `v5e:4x4` {plan['step ms']:.0f} ms"
    assert planned in " ".join(BENCHMARKS.split())


def test_compiled_modules_and_networks_are_those_of_the_compilers():
    section = BENCHMARKS.partition("## Compiled for GPU and TPU")[2].partition("\n## ")[0]
    modules = tables("compiled")["forward and backward"]
    written = re.findall(
        r"^\| (I?AFF) (\S+), r \d+ \| [^|]* \| ([\d.]+), (\d+) \| [^|]* \| ([\d.]+) \|$",
        section,
        re.MULTILINE,
    )
    assert [row[:2] for row in written] == [(r["module"].upper(), r["shape"]) for r in modules]
    for (*_, maps, kernels, cycles), row in zip(written, modules, strict=True):
        assert float(maps) == pytest.approx(row["h100 maps"], abs=0.05)
        assert int(kernels) == row["h100 kernels"]
        assert float(cycles) == pytest.approx(row["v5e Mcycles"], rel=0.04)

    networks = tables("compiled_networks")["training step"]
    written = re.findall(
        r"^\| ([\w ]+), (add|aff|iaff) \| [^|]* \| ([\d.]+), (\d+) \| [^|]* \| ([\d.]+) "
        r"\| [^|]* \| ([\d.]+) \|$",
        section,
        re.MULTILINE,
    )
    assert [row[:2] for row in written] == [(r["network"], r["fusion"]) for r in networks]
    add = {row["network"]: row for row in networks if row["fusion"] == "add"}
    for (*_, gigabytes, kernels, cycles, ratio), row in zip(written, networks, strict=True):
        assert float(gigabytes) == pytest.approx(row["h100 GB"], rel=0.01)
        assert int(kernels) == row["h100 kernels"]
        assert float(cycles) == pytest.approx(row["v5e Mcycles"], rel=0.01)
        times = row["v5e Mcycles"] / add[row["network"]]["v5e Mcycles"]
        assert float(ratio) == pytest.approx(times, abs=0.005)
    moved = [row["h100 GB"] / networks[0]["h100 GB"] for row in networks[1:3]]
    text = " ".join(section.split())
    assert f"AFF moves {moved[0]:.2f} times as many as `add`, and IAFF {moved[1]:.2f} times" in text
