"""What may stand nowhere in this repository, tests and tools included: found in the syntax, not in the text.

A debug script with pickle in it was CVE-2026-3989; so nothing is exempt but by a line in ALLOWED, with its
reason.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("streamfuse", "services", "tests", "benchmarks", "tools")

MODULES = {
    # Whoever can write what these read can run a program.
    **dict.fromkeys(
        ("pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"), "pickle"
    ),
    "imp": "eval",
    "code": "eval",
}
NAMES = {
    # Dotted name, or the name alone: may be neither called nor given another name.
    **dict.fromkeys(("eval", "exec", "compile", "__import__", "builtins.eval", "builtins.exec"), "eval"),
    **dict.fromkeys(("yaml.load", "yaml.load_all", "yaml.unsafe_load", "yaml.unsafe_load_all",
                     "yaml.full_load", "yaml.full_load_all"), "yaml"),
    **dict.fromkeys(("torch.load", "torch.serialization.load"), "torch.load"),
    **dict.fromkeys(("os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput",
                     "pty.spawn", "asyncio.create_subprocess_shell"), "shell"),
    # What goes through these is pickled.
    **dict.fromkeys(("multiprocessing.Queue", "multiprocessing.SimpleQueue", "multiprocessing.JoinableQueue",
                     "multiprocessing.Pipe", "multiprocessing.Pool", "multiprocessing.Manager",
                     "concurrent.futures.ProcessPoolExecutor"), "pickle"),
    **dict.fromkeys(("time.time", "time.time_ns", "time.localtime", "time.gmtime", "time.ctime",
                     "datetime.now", "datetime.utcnow", "datetime.today", "date.today"), "wall clock"),
    **dict.fromkeys(("tempfile.mktemp", "os.tempnam", "os.tmpnam"), "predictable name"),
}  # fmt: skip
METHODS = {
    # The name of a method on whatever object.
    **dict.fromkeys(("read_pickle", "to_pickle"), "pickle"),
    **dict.fromkeys(("recv_pyobj", "send_pyobj", "recv_serialized", "send_serialized"), "pickle"),
    **dict.fromkeys(("recv_json", "send_json", "recv_string", "send_string"), "unchecked message"),
}
KEYWORDS = {"shell": "shell", "allow_pickle": "pickle"}
"""May not be given, but as False."""

ALLOWED = {
    ("wall clock", "streamfuse/clock.py"): "the one module that reads clocks",
    ("wall clock", "tests/faults/clocks.py"): "steps the wall clock of a child",
    ("pickle", "benchmarks/bench_transport.py"): "a pipe to a process of its own, for its own numbers",
    ("zmq socket", "streamfuse/wire/transport.py"): "the one factory of sockets",
    ("torch.load of weights only", "streamfuse/training/pretrained.py"): "a published file of weights",
    ("torch.load of weights only", "streamfuse/training/train.py"): "what the same run has written",
    ("torch.load of weights only", "streamfuse/training/clip_run.py"): "what the same run has written",
}
ZMQ_MAY = {
    # Peers that break the rules on purpose, and other people's transports to compare with.
    "tests/wire/": "raw peers that misbehave",
    "tests/integration/test_ctl.py": "a raw peer that misbehaves",
    "tests/integration/test_hosts.py": "a raw peer that misbehaves, with a key",
    "tests/faults/": "raw peers that misbehave",
    "benchmarks/": "peers of other programs",
}


def dotted(node: ast.expr) -> str:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        left = dotted(node.value)
        return f"{left}.{node.attr}" if left else f"?.{node.attr}"
    return ""


def banned(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """(line, what) for everything in a module that is on a list."""
    known = _aliases(tree)
    harmless = {id(n.func) for n in ast.walk(tree) if isinstance(n, ast.Call) and _only_weights(n)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        else:
            names = []
        for name in names:
            if name.split(".")[0] in MODULES:
                yield node.lineno, MODULES[name.split(".")[0]]
        if isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Load):
            yield from ((node.lineno, what) for what in _name(node, known, harmless))
        if isinstance(node, ast.Call):
            yield from ((node.lineno, what) for what in _call(node, known))


def _aliases(tree: ast.Module) -> dict[str, str]:
    """What names stand for: `from os import system as s` makes s os.system."""
    known: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            known |= {alias.asname: alias.name for alias in node.names if alias.asname}
        elif isinstance(node, ast.ImportFrom):
            known |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    return known


def _resolved(node: ast.expr, known: dict[str, str]) -> str:
    first, dot, rest = dotted(node).partition(".")
    return known.get(first, first) + dot + rest


def _name(node: ast.expr, known: dict[str, str], harmless: set[int]) -> Iterator[str]:
    name = _resolved(node, known)
    if name in ("torch.load", "torch.serialization.load") and id(node) in harmless:
        yield "torch.load of weights only"
    elif name in NAMES:
        yield NAMES[name]
    elif any(name.endswith(f".{one}") for one in NAMES if "." in one):
        yield next(what for one, what in NAMES.items() if "." in one and name.endswith(f".{one}"))
    if name.startswith("zmq.") and name.rpartition(".")[2] in ("Context", "Socket"):
        yield "zmq socket"


def _call(node: ast.Call, known: dict[str, str]) -> Iterator[str]:
    name = _resolved(node.func, known)
    last = name.rpartition(".")[2]
    if "." in name and last in METHODS:
        yield METHODS[last]
    if last == "socket" and "." in name and node.args and name != "socket.socket":
        yield "zmq socket"
    if name == "numpy.load" and len(node.args) > 2:  # allow_pickle by its place
        yield "pickle"
    if name == "importlib.import_module" and isinstance(node.args[0], ast.Constant):
        module = str(node.args[0].value).partition(".")[0]
        if module in MODULES:
            yield MODULES[module]
    for word, value in _keywords(node):
        if word in KEYWORDS and not (isinstance(value, ast.Constant) and value.value is False):
            yield KEYWORDS[word]


def _keywords(node: ast.Call) -> Iterator[tuple[str, ast.expr]]:
    """`f(a=1, **{"b": 2})` gives a and b."""
    for keyword in node.keywords:
        if keyword.arg is not None:
            yield keyword.arg, keyword.value
        elif isinstance(keyword.value, ast.Dict):
            for key, value in zip(keyword.value.keys, keyword.value.values, strict=True):
                if isinstance(key, ast.Constant):
                    yield str(key.value), value


def _only_weights(node: ast.Call) -> bool:
    return any(
        keyword.arg == "weights_only"
        and isinstance(keyword.value, ast.Constant)
        and keyword.value.value is True
        for keyword in node.keywords
    )


def files() -> list[Path]:
    found = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")]
    return sorted(path for path in found if "streamfuse/services" not in path.as_posix())


def allowed(what: str, name: str) -> bool:
    if what == "zmq socket" and any(name.startswith(prefix) for prefix in ZMQ_MAY):
        return True
    return (what, name) in ALLOWED


@pytest.mark.parametrize("file", files(), ids=lambda f: f.relative_to(ROOT).as_posix())
def test_nothing_banned_stands_in(file: Path) -> None:
    name = file.relative_to(ROOT).as_posix()
    for line, what in banned(ast.parse(file.read_text())):
        assert allowed(what, name), f"{name}:{line}: {what} is banned (tests/test_bans.py)"


@pytest.mark.parametrize(
    ("code", "what"),
    [
        ("import pickle", "pickle"),
        ("from pickle import loads", "pickle"),
        ("import joblib as j", "pickle"),
        ("import marshal", "pickle"),
        ("import numpy as np\nnp.load('x', allow_pickle=True)", "pickle"),
        ("import numpy as np\nnp.load('x', allow_pickle=flag)", "pickle"),
        ("socket.recv_pyobj()", "pickle"),
        ("import yaml\nyaml.load(text)", "yaml"),
        ("from yaml import unsafe_load as read\nread(text)", "yaml"),
        ("import torch\ntorch.load(path)", "torch.load"),
        ("from torch import load\nload(path)", "torch.load"),
        ("import torch as t\nt.load(path, weights_only=False)", "torch.load"),
        ("import torch as t\nt.load(path, weights_only=True)", "torch.load of weights only"),
        ("eval('1')", "eval"),
        ("import builtins\nbuiltins.exec('1')", "eval"),
        ("__import__('os')", "eval"),
        ("import subprocess\nsubprocess.run('ls', shell=True)", "shell"),
        ("import subprocess\nsubprocess.run('ls', shell=flag)", "shell"),
        ("from os import system as s\ns('ls')", "shell"),
        ("import time\ntime.time()", "wall clock"),
        ("from time import time as now\nnow()", "wall clock"),
        ("import datetime\ndatetime.datetime.now()", "wall clock"),
        ("from datetime import datetime\ndatetime.now()", "wall clock"),
        ("import zmq\nzmq.Context()", "zmq socket"),
        ("import zmq.asyncio\nzmq.asyncio.Context.instance()", "zmq socket"),
        ("from zmq import asyncio as z\nz.Context()", "zmq socket"),
        ("import tempfile\ntempfile.mktemp()", "predictable name"),
        ("import multiprocessing as m\nm.Queue()", "pickle"),
        ("from multiprocessing import Pipe\nPipe()", "pickle"),
        ("from concurrent.futures import ProcessPoolExecutor\nProcessPoolExecutor()", "pickle"),
        ("import numpy as np\nnp.load('x', None, True)", "pickle"),
        ("import pandas\npandas.read_pickle('x')", "pickle"),
        ("import importlib\nimportlib.import_module('pickle')", "pickle"),
        ("import torch\nread = torch.load\nread(path)", "torch.load"),
        ("import yaml\nread = yaml.load", "yaml"),
        ("run = eval\nrun('1')", "eval"),
        ("import time\nnow = time.time", "wall clock"),
        ("import asyncio\nasyncio.create_subprocess_shell('ls')", "shell"),
        ("import subprocess\nsubprocess.run('ls', **{'shell': True})", "shell"),
        ("context.socket(1)", "zmq socket"),
        ("import zmq\nzmq.Socket(context, 1)", "zmq socket"),
        ("from zmq import Context\nContext()", "zmq socket"),
    ],
)
def test_ban_is_noticed(code: str, what: str) -> None:
    assert what in {found for _, found in banned(ast.parse(code))}


@pytest.mark.parametrize(
    "code",
    [
        "import re\nre.compile('x')",
        "import yaml\nyaml.safe_load(text)",
        "import json\njson.load(file)",
        "import time\ntime.monotonic_ns()",
        "import numpy as np\nnp.load('x', allow_pickle=False)",
        "import subprocess\nsubprocess.run(['ls'])",
        "model.eval()",
        "import socket\nsocket.socket()",
        "torch.jit.load(path)",
    ],
)
def test_what_is_allowed_is_left_alone(code: str) -> None:
    assert list(banned(ast.parse(code))) == []


def test_allowances_are_still_needed() -> None:
    for what, name in ALLOWED:
        assert what in {found for _, found in banned(ast.parse((ROOT / name).read_text()))}, (what, name)
