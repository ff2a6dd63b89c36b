"""The configurations that come with the program, and the schema that editors check them with."""

from __future__ import annotations

import json
import re
from pathlib import Path

import jsonschema
import pytest
import yaml

from streamfuse.media.source import parse_source
from streamfuse.settings import json_schema, load_config
from tests.cli.conftest import Run

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
FILES = sorted(CONFIGS.glob("*.yaml"))
ENVIRONMENT = {"DOOR_PASSWORD": "one", "YARD_PASSWORD": "two"}


def test_there_are_some() -> None:
    assert {"live", "recorded", "latency", "gpu"} <= {path.stem for path in FILES}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_config_is_right_and_its_sources_can_be_opened(
    path: Path, run: Run, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    ran = run("validate", path, "--set", f"model.path={tiny_model}")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.startswith(f"{path}: right\n")
    for source in load_config(path).sources.values():
        parse_source(source.input, allow_hls=source.allow_hls)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_editor_accepts_config(path: Path) -> None:
    text = path.read_text()
    assert text.startswith("# yaml-language-server: $schema=schema.json\n")
    schema = json.loads((CONFIGS / "schema.json").read_text())
    jsonschema.Draft202012Validator(schema).validate(yaml.safe_load(text))


def uncommented(text: str) -> str:
    """The examples that stand in comments at the end of a configuration, as they are when one uses them."""
    lines = text[text.index("# notify:") :].splitlines()
    return "\n".join(line[2:] for line in lines if re.match(r"# ( |[a-z_]+:)", line)) + "\n"


def yaml_blocks(page: str) -> list[str]:
    text = (CONFIGS.parent / "docs" / page).read_text()
    return [block.split("```")[0] for block in text.split("```yaml\n")[1:]]


EXAMPLES = [uncommented((CONFIGS / "live.yaml").read_text())]
EXAMPLES += [block for block in yaml_blocks("notify.md") if block.startswith("notify:")]


@pytest.mark.parametrize("text", EXAMPLES, ids=range(len(EXAMPLES)))
def test_examples_in_comments_and_on_pages_are_right(text: str, tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text(text)
    names = ("DESK_HOOK", "DESK_SECRET", "PHONE_HOOK", "PHONE_SECRET", "MQTT_PASSWORD")
    config = load_config(tmp_path / "run.yaml", environment=dict.fromkeys(names, "https://example.com/x"))
    assert config.notify.wanted
    schema = json.loads((CONFIGS / "schema.json").read_text())
    jsonschema.Draft202012Validator(schema).validate(yaml.safe_load(text))


def test_editor_refuses_a_misspelt_key() -> None:
    schema = json.loads((CONFIGS / "schema.json").read_text())
    wrong = {"decode": {"read_timeout": 3}}
    with pytest.raises(jsonschema.ValidationError, match="read_timeout"):
        jsonschema.Draft202012Validator(schema).validate(wrong)


def test_schema_is_the_programs_own() -> None:
    """After a change of the configuration: streamfuse validate --schema > configs/schema.json"""
    assert (CONFIGS / "schema.json").read_text() == json_schema() + "\n"
