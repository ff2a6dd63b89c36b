"""A YAML file and `--set` overrides -> AppConfig; every mistake is one line that names its place.

The YAML is plain data: no tags, no keys said twice, `no` and `12:30` are text, numbers and true/false
are what JSON calls so. `${VAR}` and `${VAR:-default}` inside a value come from the environment, after
parsing, so that a secret cannot change the file's structure; `$${` is a plain `${`. A value that came
from the environment is never quoted in an error.
"""

from __future__ import annotations

import difflib
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, overload

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from streamfuse.config import AppConfig
from streamfuse.errors import ConfigError

MAX_BYTES = 1_000_000
MAX_NODES = 20_000
"""Values in one file, aliases written out: a file of nested aliases would fill the memory."""
MAX_DEPTH = 32

Config = TypeVar("Config", bound=AppConfig)
Path_ = tuple[str | int, ...]

_COLLECTIONS = ("tag:yaml.org,2002:map", "tag:yaml.org,2002:seq")
_VARIABLE = re.compile(r"\$(?:\$\{|\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\})")
_TARGETS = ("notify", "targets")
_NUMBER = re.compile(
    r"[-+]?(?:0|[1-9][0-9]*)(?:\.[0-9]*)?(?:[eE][-+]?[0-9]+)?$|[-+]?\.[0-9]+(?:[eE][-+]?[0-9]+)?$"
)


class _Loader(yaml.SafeLoader):
    """SafeLoader that knows only JSON's plain values: YAML 1.1 reads `no` as false and 12:30 as 750."""

    yaml_implicit_resolvers: dict[Any, Any] = {}  # noqa: RUF012, PyYAML's own name and kind


_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"^(?:true|false)$"), list("tf"))
_Loader.add_implicit_resolver("tag:yaml.org,2002:null", re.compile(r"^(?:~|null|)$"), ["~", "n", ""])
_Loader.add_implicit_resolver("streamfuse:number", _NUMBER, list("-+.0123456789"))


@dataclass
class _Document:
    """What was read, and where each value stood, for the errors."""

    name: str
    lines: dict[Path_, int] = field(default_factory=dict)
    secret: set[Path_] = field(default_factory=set)
    overridden: dict[Path_, str] = field(default_factory=dict)
    nodes: int = 0

    def where(self, path: Path_) -> str:
        for end in range(len(path), 0, -1):
            if path[:end] in self.overridden:
                return self.overridden[path[:end]]
            if path[:end] in self.lines:
                return f"{self.name}:{self.lines[path[:end]]}"
        return self.name


@overload
def load_config(
    path: Path | None = ..., overrides: Sequence[str] = ..., *, environment: Mapping[str, str] | None = ...
) -> AppConfig: ...


@overload
def load_config(
    path: Path | None = ...,
    overrides: Sequence[str] = ...,
    *,
    schema: type[Config],
    environment: Mapping[str, str] | None = ...,
) -> Config: ...


def load_config(
    path: Path | None = None,
    overrides: Sequence[str] = (),
    *,
    schema: type[AppConfig] = AppConfig,
    environment: Mapping[str, str] | None = None,
) -> AppConfig:
    """Read the file (none: all defaults), apply `a.b=value` overrides in order, check against the schema.

    raises  ConfigError naming the key, what came, and file:line
    """
    environment = os.environ if environment is None else environment
    document = _Document(str(path) if path else "defaults")
    data: dict[str, Any] = {} if path is None else _read(path, document, environment)
    for text in overrides:
        _override(data, text, document, environment)
    try:
        return schema.model_validate(data)
    except ValidationError as error:
        raise _explain(error, document) from None


def json_schema() -> str:
    """The JSON Schema of the configuration file, for editors that complete and check YAML."""
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **AppConfig.model_json_schema()}
    return json.dumps(schema, indent=2)


def _read(path: Path, document: _Document, environment: Mapping[str, str]) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
        if len(raw) > MAX_BYTES:
            raise ConfigError(f"a configuration file holds at most {MAX_BYTES} bytes", where=path)
        node = yaml.compose(raw.decode("utf-8-sig"), Loader=_Loader)
    except OSError as error:
        raise ConfigError("the configuration file cannot be read", got=error.strerror, where=path) from error
    except UnicodeDecodeError as error:
        raise ConfigError("a configuration file is UTF-8 text", got="other bytes", where=path) from error
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ConfigError("not valid YAML", got=error.problem, where=f"{path}:{line}") from error
    except (yaml.YAMLError, RecursionError) as error:
        raise ConfigError("not valid YAML", got=type(error).__name__, where=path) from error
    if node is None:
        return {}
    value = _plain(node, (), document, environment)
    if not isinstance(value, dict):
        raise ConfigError("a configuration file is a mapping of sections", got=repr(value)[:60], where=path)
    return value


def _plain(node: yaml.Node, path: Path_, document: _Document, environment: Mapping[str, str]) -> Any:
    """A YAML node as dict, list, str, int, float, bool or None, its line noted under its path."""
    document.lines.setdefault(path, node.start_mark.line + 1)
    document.nodes += 1
    where = f"{document.name}:{node.start_mark.line + 1}"
    if document.nodes > MAX_NODES or len(path) > MAX_DEPTH:
        raise ConfigError(f"at most {MAX_NODES} values, {MAX_DEPTH} deep", got="more", where=where)
    if not isinstance(node, yaml.ScalarNode) and node.tag not in _COLLECTIONS:
        raise ConfigError("values are plain data without tags", got=node.tag, where=where)
    if isinstance(node, yaml.MappingNode):
        result: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = key_node.value
            at = f"{document.name}:{key_node.start_mark.line + 1}"
            if not isinstance(key_node, yaml.ScalarNode):
                raise ConfigError("keys must be plain words", got="a list or mapping", where=at)
            if key in result:
                raise ConfigError(f"key `{_dotted((*path, key))}` may stand only once", got="two", where=at)
            document.lines[(*path, key)] = key_node.start_mark.line + 1
            result[key] = _plain(value_node, (*path, key), document, environment)
        return result
    if isinstance(node, yaml.SequenceNode):
        return [_plain(n, (*path, i), document, environment) for i, n in enumerate(node.value)]
    return _scalar(node, path, document, environment, where)


def _scalar(
    node: yaml.Node, path: Path_, document: _Document, environment: Mapping[str, str], where: str
) -> Any:
    text = node.value
    match node.tag:
        case "tag:yaml.org,2002:null":
            return None
        case "tag:yaml.org,2002:bool":
            return text == "true"
        case "streamfuse:number":
            return float(text) if any(c in text for c in ".eE") else int(text)
        case "tag:yaml.org,2002:str":
            return _substitute(text, path, document, environment, where)
    raise ConfigError("values are plain data without tags", got=node.tag, where=where)


def _substitute(
    text: str, path: Path_, document: _Document, environment: Mapping[str, str], where: str
) -> str:
    def value(match: re.Match[str]) -> str:
        if match.group(1) is None:
            return "${"
        document.secret.add(path)
        found = environment.get(match.group(1), match.group(2))
        if found is None:
            raise ConfigError(
                f"`{_dotted(path)}` needs the environment variable {match.group(1)}",
                got="none of that name",
                where=where,
                hint=f"set it, or write ${{{match.group(1)}:-default}}",
            )
        return found

    return _VARIABLE.sub(value, text)


def _override(data: dict[str, Any], text: str, document: _Document, environment: Mapping[str, str]) -> None:
    """Apply one `a.b=value`; the value is read as YAML, so that numbers, true and [a, b] work."""
    where = f"--set {text.partition('=')[0]}"
    key, equals, value = text.partition("=")
    path = tuple(key.split("."))
    if not equals or not all(path):
        raise ConfigError("--set takes section.key=value", got=repr(text))
    try:
        node = yaml.compose(value, Loader=_Loader)
    except yaml.YAMLError as error:
        raise ConfigError("the value is not valid YAML", got=repr(value), where=where) from error
    place = data
    for part in path[:-1]:
        inner = place.setdefault(part, {})
        if inner is None:
            inner = place[part] = {}
        if not isinstance(inner, dict):
            raise ConfigError(f"`{part}` has no keys inside", got=repr(inner)[:60], where=where)
        place = inner
    scratch = _Document(where)
    place[path[-1]] = None if node is None else _plain(node, path, scratch, environment)
    document.overridden[path] = where
    document.secret |= scratch.secret


def _explain(error: ValidationError, document: _Document) -> ConfigError:
    """The first thing that is wrong, in our words, and how many more there are."""
    told = error.errors(include_url=False)
    places = {tuple(e["loc"]) for e in told}
    # A source has the run's keys where it leaves them open: those are told where they stand.
    errors = [e for e in told if e["loc"][0:1] != ("sources",) or tuple(e["loc"][2:]) not in places]
    # An unknown key often causes the other errors ("missing"), so it is told first.
    first = min(errors, key=lambda e: e["type"] != "extra_forbidden")
    path = _path_in_file(tuple(first["loc"]))
    more = f"{len(errors) - 1} more wrong" if len(errors) > 1 else None
    if first["type"] == "extra_forbidden":
        known = _keys_at(path[:-1])
        near = difflib.get_close_matches(str(path[-1]), known, n=1)
        guess = f" (did you mean `{near[0]}`?)" if near else f" (known: {', '.join(sorted(known))})"
        rule = f"unknown key `{_dotted(path)}`{guess if known else ''}"
        return ConfigError(rule, where=document.where(path), hint=more)
    secret = any(one[: len(p)] == p for one in document.secret for p in (path, path[2:]) if p)
    got = "a value from the environment" if secret else _short(first)
    if path[:2] == _TARGETS and isinstance(first["input"], str | dict):
        got = None  # it may be a token
    return ConfigError(_rule(path, first["msg"]), got=got, where=document.where(path), hint=more)


def _path_in_file(loc: Path_) -> Path_:
    """Where an error is, without the kind of target that pydantic puts into its path."""
    return (*loc[:3], *loc[4:]) if loc[:2] == _TARGETS else loc


def _rule(path: Path_, message: str) -> str:
    name = f"`{_dotted(path)}`" if path else "the configuration"
    for start in ("Input should", "Value should", "String should", "List should", "Tuple should"):
        if message.startswith(start):
            return f"{name} must{message.removeprefix(start)}"
    return f"{name}: {message.removeprefix('Value error, ')}"


def _short(error: ErrorDetails) -> str | None:
    if error["type"] == "missing":
        return None
    text = repr(error["input"])
    return text if len(text) <= 60 else text[:57] + "..."


def _keys_at(path: Path_) -> list[str]:
    """The keys the schema knows at a path; of a mapping or list, those of its values."""
    models: list[type[BaseModel]] = [AppConfig]
    for part in path:
        fields = [m.model_fields[part] for m in models if part in m.model_fields]
        if fields:
            models = [m for f in fields for m in _models_in(f.annotation)]
    return [name for model in models for name in model.model_fields]


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in getattr(annotation, "__args__", ()):
        yield from _models_in(inner)


def _dotted(path: Path_) -> str:
    return ".".join(str(part) for part in path)
