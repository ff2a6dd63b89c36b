"""What every service process does before and after its loop: limits, one-line errors, exit codes."""

from __future__ import annotations

import argparse
import ctypes
import logging
import os
import resource
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import ValidationError

from streamfuse.config import RunConfig
from streamfuse.errors import BackendError, ConfigError, ModelError, SourceRefused, StreamfuseError
from streamfuse.media.redact import guard_stderr
from streamfuse.services.logs import begin_logging
from streamfuse.services.parent import PARENT
from streamfuse.settings import load_config
from streamfuse.supervise import systemd
from streamfuse.wire.endpoints import AddressTaken

EXIT_DONE, EXIT_FAILED, EXIT_CONFIG, EXIT_MODEL, EXIT_REFUSED, EXIT_TAKEN, EXIT_DEVICE = range(7)
"""Another start helps only after EXIT_FAILED."""

ONE_THREAD = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
"""Two threads beside a busy neighbour gave a p99 of 1350 ms where one gave 7.7."""

DECODE_MEMORY = 4 << 30
"""Bytes of address space for the process that reads what strangers send."""
DECODE_FILES = 256
DECODE_CPU_S = 120
"""Processor time from one item read to the next: no picture takes that long, an endless loop does."""

_PR_SET_NO_NEW_PRIVS = 38


def command(service: str, config: Path, name: str = "", *, standby: bool = False) -> list[str]:
    """The command line that starts a service; nothing in it is secret."""
    argv = [sys.executable, "-m", f"streamfuse.services.{service}", "--config", str(config)]
    if service == "decode":
        argv += ["--source", name]
    elif service == "analyze":
        argv += ["--name", name]
    return [*argv, "--standby"] if standby else argv


def reserve_command(run_dir: Path) -> list[str]:
    """The command line of the process that becomes decode or publish when one of them dies."""
    return [sys.executable, "-m", "streamfuse.services.reserve", str(run_dir)]


def environment() -> dict[str, str]:
    """The environment of a service that dies with this process."""
    one = dict.fromkeys(ONE_THREAD, "1")
    ours = {name: value for name, value in os.environ.items() if name not in systemd.VARIABLES}
    return {**ours, **one, "PYTHONUNBUFFERED": "1", PARENT: str(os.getpid())}


def run(main: Callable[[argparse.Namespace], None], *options: str, private: bool = True) -> None:
    """The whole life of a service process; it ends here, with its exit code.

    private  what it writes is its owner's alone; publish writes for people, as their umask says
    options  names of the text options beside --config; one that ends with `?` is a switch
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("--config", type=Path, required=True)
    for option in options:
        if option.endswith("?"):
            parser.add_argument(f"--{option[:-1]}", action="store_true")
        else:
            parser.add_argument(f"--{option}", required=True)
    arguments = parser.parse_args()
    if private:
        os.umask(0o077)
    _settle_in()
    code = EXIT_DONE
    try:
        main(arguments)
    except StreamfuseError as error:
        code = exit_code(error)
        print(f"streamfuse: {error}", file=sys.stderr)
    sys.stderr.flush()
    # A thread may sit in a decoder that never returns; nothing of ours is left to be done.
    os._exit(code)


def load_run(path: Path) -> RunConfig:
    """What the processes of a run are told: run.json as the supervisor wrote it, or a person's YAML.

    raises  ConfigError, which quotes no value: they may hold credentials
    """
    if path.suffix != ".json":
        return load_config(path, schema=RunConfig)
    try:
        return RunConfig.model_validate_json(path.read_bytes())
    except OSError as error:
        raise ConfigError("the run's configuration cannot be read", got=error.strerror, where=path) from error
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise ConfigError(f"`{place}`: {first['msg']}", where=path) from None


@contextmanager
def deadline(seconds: float, error: StreamfuseError) -> Iterator[None]:
    """End this process with `error` where the block does not end in time: what hangs may never return."""

    def give_up() -> None:
        print(f"streamfuse: {error}", file=sys.stderr, flush=True)
        os._exit(exit_code(error))

    timer = threading.Timer(seconds, give_up)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def exit_code(error: StreamfuseError) -> int:
    match error:
        case ConfigError():
            return EXIT_CONFIG
        case ModelError():
            return EXIT_MODEL
        case SourceRefused():
            return EXIT_REFUSED
        case AddressTaken():
            return EXIT_TAKEN
        case BackendError():
            return EXIT_DEVICE
    return EXIT_FAILED


def confine(memory: int | None = DECODE_MEMORY) -> None:
    """Take from the process that decodes what it does not need: files, memory, new rights, core dumps.

    memory  bytes of address space; None: as many as it wants
    """
    _lower(resource.RLIMIT_CORE, 0)
    _lower(resource.RLIMIT_NOFILE, DECODE_FILES)
    if memory is not None:
        _lower(resource.RLIMIT_AS, memory)
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)


class CpuAllowance:
    """RLIMIT_CPU that moves on as reading gets on: the kernel ends a decoder that is caught in a loop.

    The supervisor's watch notices that as well; this holds where there is no supervisor, and where the
    library never lets go of the interpreter.
    """

    def __init__(self, allowance_s: int = DECODE_CPU_S) -> None:
        self._allowance_s = allowance_s
        self._granted_s = -float(allowance_s)
        self.renew()

    def renew(self) -> None:
        """Something came of the time spent: allow the whole again. Cheap enough for every item."""
        usage = resource.getrusage(resource.RUSAGE_SELF)
        used_s = usage.ru_utime + usage.ru_stime
        if used_s - self._granted_s < self._allowance_s / 10:
            return
        self._granted_s = used_s
        _, hard = resource.getrlimit(resource.RLIMIT_CPU)
        soft = int(used_s) + 1 + self._allowance_s
        resource.setrlimit(
            resource.RLIMIT_CPU, (soft if hard == resource.RLIM_INFINITY else min(soft, hard), hard)
        )


def _settle_in() -> None:
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    guard_stderr()
    begin_logging()


def _lower(limit: int, value: int) -> None:
    _, hard = resource.getrlimit(limit)
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    try:
        resource.setrlimit(limit, (value, value))
    except (ValueError, OSError) as error:
        logging.getLogger(__name__).warning("limit %d could not be set to %d: %s", limit, value, error)


def _prctl(option: int, value: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, value, 0, 0, 0) != 0:
        logging.getLogger(__name__).warning("prctl(%d) failed with errno %d", option, ctypes.get_errno())
