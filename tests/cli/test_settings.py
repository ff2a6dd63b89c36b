"""The configuration file: what it may say, and the one line for each mistake."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamfuse.config import AppConfig
from streamfuse.errors import ConfigError
from streamfuse.settings import json_schema, load_config


def load(folder: Path, text: str, *overrides: str, **environment: str) -> AppConfig:
    file = folder / "config.yaml"
    file.write_text(text)
    return load_config(file, overrides, environment=environment)


def problem(folder: Path, text: str, *overrides: str, **environment: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load(folder, text, *overrides, **environment)
    told = str(caught.value)
    assert "\n" not in told
    return told.replace(f"{folder}/", "")


def test_no_file_is_all_defaults() -> None:
    assert load_config() == AppConfig()


def test_empty_file_and_comments_are_all_defaults(tmp_path: Path) -> None:
    assert load(tmp_path, "# nothing\n") == AppConfig()


def test_values_of_every_section_arrive(tmp_path: Path) -> None:
    config = load(
        tmp_path,
        """
decode: {threads: 4, allow_codecs: [dnxhd]}
ticks: {hold_max_ms: 500}
model: {device: cpu}
labels:
  smoothing_s: 2.5
  heads:
    scene: {threshold: 0.7}
outputs: {html: true, vtt: false}
""",
    )
    assert (config.decode.threads, config.decode.allow_codecs) == (4, ("dnxhd",))
    assert config.ticks.hold_max_ms == 500
    assert config.labels.smoothing_s == 2.5
    assert config.labels.head("scene").threshold == 0.7
    assert (config.outputs.html, config.outputs.vtt) == (True, False)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "labels:\n  smoothin_s: 1\n",
            "unknown key `labels.smoothin_s` (did you mean `smoothing_s`?) [config.yaml:2]",
        ),
        ("modell: {}", "unknown key `modell` (did you mean `model`?) [config.yaml:1]"),
        (
            "\nlabels:\n  heads:\n    scene:\n      thresold: 1\n",
            "unknown key `labels.heads.scene.thresold` (did you mean `threshold`?) [config.yaml:5]",
        ),
        (
            "labels:\n  enter: 1.5\n",
            "`labels.enter` must be less than or equal to 1, got 1.5 [config.yaml:2]",
        ),
        (
            "ticks: {max_gap_ms: 1\n  }",
            "`ticks.max_gap_ms` must be greater than or equal to 100, got 1 [config.yaml:1]",
        ),
        (
            "model:\n  device: gpu\n",
            "`model.device` must match pattern '^(auto|cpu|cuda(:\\d+)?)$', got 'gpu' [config.yaml:2]",
        ),
        (
            "labels:\n  raw: true\n  raw: false\n",
            "key `labels.raw` may stand only once, got two [config.yaml:3]",
        ),
        ("- labels", "a configuration file is a mapping of sections, got ['labels'] [config.yaml]"),
        (
            "labels: !!python/object/apply:os.system [id]",
            "values are plain data without tags, got tag:yaml.org,2002:python/object/apply:os.system",
        ),
        ("labels: [\n", "not valid YAML, got "),
        ("? [a]\n: 1", "keys must be plain words, got a list or mapping [config.yaml:1]"),
    ],
)
def test_mistake_is_told_in_one_line(tmp_path: Path, text: str, told: str) -> None:
    assert problem(tmp_path, text).startswith(told)


def test_further_mistakes_are_counted(tmp_path: Path) -> None:
    assert problem(tmp_path, "labels: {enter: 2, leave: 3}").endswith("; 1 more wrong")


def test_unknown_key_without_a_near_one_lists_what_is_known(tmp_path: Path) -> None:
    told = problem(tmp_path, "zzz: 1")
    known = r"\(known: analyzers, decode, .*model, notify, outputs, .*\)"
    assert re.match(rf"unknown key `zzz` {known} \[config.yaml:1\]", told)


@pytest.mark.parametrize("word", ["no", "yes", "on", "off", "True", "12:30"])
def test_words_that_yaml_11_would_change_stay_words(tmp_path: Path, word: str) -> None:
    assert load(tmp_path, f"model: {{path: {word}}}").model.path == word


@pytest.mark.parametrize("number", [".nan", "nan", ".inf", "inf"])
def test_number_that_is_none_is_refused(tmp_path: Path, number: str) -> None:
    assert "`labels.smoothing_s` must be a" in problem(tmp_path, f"labels: {{smoothing_s: {number}}}")


@given(st.integers(1, 64), st.floats(0, 600, allow_nan=False))
def test_numbers_are_read_as_json_reads_them(threads: int, smoothing: float) -> None:
    overrides = [f"decode.threads={json.dumps(threads)}", f"labels.smoothing_s={json.dumps(smoothing)}"]
    config = load_config(None, overrides)
    assert (config.decode.threads, config.labels.smoothing_s) == (threads, smoothing)


def test_variables_come_from_the_environment(tmp_path: Path) -> None:
    text = "model: {path: '${DIR}/${NAME:-default}.ts'}"
    assert load(tmp_path, text, DIR="/models").model.path == "/models/default.ts"
    assert load(tmp_path, "model: {path: '$${DIR}'}").model.path == "${DIR}"


def test_variable_cannot_change_the_structure(tmp_path: Path) -> None:
    config = load(tmp_path, "model: {path: '${P}'}", P="x}, labels: {enter: 0.1")
    assert config.model.path == "x}, labels: {enter: 0.1"


def test_missing_variable_is_told(tmp_path: Path) -> None:
    told = problem(tmp_path, "model:\n  path: ${MODEL_DIR}/x.ts\n")
    assert told == (
        "`model.path` needs the environment variable MODEL_DIR, got none of that name [config.yaml:2]; "
        "set it, or write ${MODEL_DIR:-default}"
    )


def test_value_of_a_variable_is_never_quoted(tmp_path: Path) -> None:
    told = problem(tmp_path, "model: {device: '${SECRET}'}", SECRET="hunter2")
    assert "hunter2" not in told
    assert "got a value from the environment" in told


def test_overrides_win_in_order(tmp_path: Path) -> None:
    config = load(
        tmp_path,
        "labels: {enter: 0.9}",
        "labels.enter=0.8",
        "labels.enter=0.7",
        "labels.heads.scene.min_dwell_s=3",
        "decode.allow_codecs=[dnxhd, cinepak]",
    )
    assert config.labels.enter == 0.7
    assert config.labels.head("scene").min_dwell_s == 3
    assert config.decode.allow_codecs == ("dnxhd", "cinepak")


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("labels.enter", "--set takes section.key=value, got 'labels.enter'"),
        ("labels..enter=1", "--set takes section.key=value, got 'labels..enter=1'"),
        ("labels.entr=1", "unknown key `labels.entr` (did you mean `enter`?) [--set labels.entr]"),
        ("labels.enter=2", "`labels.enter` must be less than or equal to 1, got 2 [--set labels.enter]"),
        ("labels.enter.x=2", "`enter` has no keys inside, got 0.5 [--set labels.enter.x]"),
        ("labels.enter=[", "the value is not valid YAML, got '['"),
    ],
)
def test_mistake_in_an_override_names_it(tmp_path: Path, override: str, told: str) -> None:
    assert problem(tmp_path, "labels: {enter: 0.5}", override).startswith(told)


def test_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read, got No such file or directory"):
        load_config(tmp_path / "none.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"model: {path: \xe9}")
    with pytest.raises(ConfigError, match="is UTF-8 text, got other bytes"):
        load_config(tmp_path / "latin.yaml")


def test_aliases_that_multiply_are_refused(tmp_path: Path) -> None:
    text = "a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n"
    for level in range(1, 9):
        text += f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 10)}]\n"
    assert "at most 20000 values, 32 deep, got more" in problem(tmp_path, text)


def test_file_that_is_too_long_is_refused(tmp_path: Path) -> None:
    assert "holds at most 1000000 bytes" in problem(tmp_path, "#" * 1_000_001)


def test_schema_describes_every_key() -> None:
    schema = json.loads(json_schema())
    assert schema["additionalProperties"] is False
    smoothing = schema["$defs"]["LabelConfig"]["properties"]["smoothing_s"]
    assert smoothing["maximum"] == 600
    assert smoothing["description"].startswith("Time constant")


def test_source_overrides_single_keys_and_keeps_the_runs_others(tmp_path: Path) -> None:
    """Also once more through the file that the processes read, and with an override of the command line."""
    (tmp_path / "run.yaml").write_text(
        "decode: {read_timeout_s: 3, threads: 2}\n"
        "ticks: {max_gap_ms: 500}\n"
        "labels: {enter: 0.8, raw: true, heads: {scene: {smoothing_s: 3, leave: 0.3}, sound: {enter: 0.9}}}\n"
        "sources:\n"
        "  plain: {input: a.mp4}\n"
        "  own: {input: b.mp4, decode: {threads: 4}, ticks: {hold_max_ms: 7},\n"
        "        labels: {leave: 0.7, threshold: 0.5, heads: {scene: {leave: 0.5}, mood: {enter: 0.5}}}}\n"
    )
    config = load_config(tmp_path / "run.yaml", ["decode.open_timeout_s=9"])
    plain = config.sources["plain"]
    assert (plain.decode, plain.ticks, plain.labels) == (None, None, None)
    assert config.of("plain") == config.of("of no such name") == config
    for read in (config, AppConfig.model_validate_json(config.model_dump_json())):
        own = read.sources["own"]
        assert own.decode is not None and own.ticks is not None
        assert (own.decode.threads, own.decode.read_timeout_s, own.decode.open_timeout_s) == (4, 3, 9)
        assert (own.ticks.hold_max_ms, own.ticks.max_gap_ms) == (7, 500)
        labels = read.of("own").labels
        assert labels == own.labels
        assert (labels.enter, labels.leave, labels.threshold, labels.raw) == (0.8, 0.7, 0.5, True)
        scene = labels.head("scene")
        assert (scene.smoothing_s, scene.leave, labels.head("sound").enter) == (3, 0.5, 0.9)
        assert (labels.head("mood").enter, labels.head("mood").smoothing_s) == (0.5, 1.0)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        # What a source leaves open counts: each of the two is right alone.
        (
            "labels: {enter: 0.8}\nsources:\n  a:\n    input: x\n    labels: {leave: 0.85}\n",
            "`sources.a.labels`: leave (0.85) must not be above enter (0.8)",
        ),
        (
            "labels: {leave: 0.5}\nsources:\n  a:\n    input: x\n    labels: {enter: 0.45}\n",
            "`sources.a.labels`: leave (0.5) must not be above enter (0.45)",
        ),
        (
            "sources:\n  a:\n    input: x\n    # own\n    labels: {entr: 0.4}\n",
            "unknown key `sources.a.labels.entr` (did you mean `enter`?) [config.yaml:5]",
        ),
        ("sources: {a: {input: x, labels: 5}}", "`sources.a.labels` must be a valid dictionary"),
    ],
)
def test_mistake_in_what_a_source_has_of_its_own(tmp_path: Path, text: str, told: str) -> None:
    said = problem(tmp_path, text)
    assert told in said
    assert "[config.yaml:" in said


def test_mistake_of_the_run_is_told_once_however_many_sources_take_it_over(tmp_path: Path) -> None:
    text = (
        "labels: {enter: 7}\n"
        "sources: {a: {input: x, labels: {raw: true}}, b: {input: y, labels: {raw: true}}}"
    )
    assert problem(tmp_path, text) == "`labels.enter` must be less than or equal to 1, got 7 [config.yaml:1]"


def test_secret_of_the_run_is_not_quoted_where_a_source_takes_it_over(tmp_path: Path) -> None:
    text = "labels: {enter: '${LEVEL}'}\nsources: {a: {input: x, labels: {raw: true}}}"
    assert "geheim" not in problem(tmp_path, text, LEVEL="geheim")
