#!/usr/bin/env python3
"""The one program a fresh machine needs: makes the environment once, then runs a kalshidb command or the tests.

    python3 run.py demo                 any kalshidb command
    python3 run.py test [pytest's …]    the tests
    python3 run.py bench [--quick] …    the benchmarks

Standard library only, and readable by any Python 3, so that an old one can say what is missing. What is installed is
pinned by hash in requirements.txt (commands) and requirements-dev.txt (tests). Once it is installed, no network is
needed.
"""

# ruff: noqa: UP032  (no f-strings: a Python too old for them must still get to the message)

import contextlib
import hashlib
import json
import os
import shutil
import stat
import subprocess
import sys
import tempfile

OLDEST = (3, 11)

if sys.version_info < OLDEST:
    sys.exit(
        "kalshidb needs Python {}.{} or newer; this is {} ({}).\nRun it with a newer one, such as: python3.13 run.py {}".format(
            OLDEST[0], OLDEST[1], sys.version.split()[0], sys.executable, " ".join(sys.argv[1:])
        )
    )

from collections.abc import Iterator  # noqa: E402  (only after the message)
from pathlib import Path  # noqa: E402

ROOT = Path(__file__).resolve().parent
COMMANDS, TESTS = "requirements.txt", "requirements-dev.txt"
HELP = """usage: python3 run.py demo                   the whole path on built-in data, in one go
       python3 run.py <command> [arguments]  any kalshidb command; `python3 run.py --help` lists them
       python3 run.py test [arguments]       the tests; the arguments are pytest's
       python3 run.py bench [--quick]        the benchmarks, against the alternatives; --json FILE keeps the numbers

The first run makes a virtual environment and installs the pinned requirements; later ones need no network.
Environment:
  DATABASE_URL    use this PostgreSQL instead of a server of kalshidb's own
  KALSHIDB_HOME   where that server keeps its data
  KALSHIDB_VENV   where the virtual environment is (default: .venv here, or in the user's cache if this folder is
                  read-only)
"""


def main(arguments: "list[str]") -> None:
    """Prepare the environment and become the program that was asked for."""
    if not arguments:
        print(HELP, end="")
        return
    if arguments[0] == "test":
        python = environment(TESTS)
        os.chdir(str(ROOT))
        cache = [] if os.access(str(ROOT), os.W_OK) else ["-p", "no:cacheprovider"]
        command = ["-m", "pytest", *cache, *parallel(arguments[1:]), *arguments[1:]]
    elif arguments[0] == "bench":
        python = environment(TESTS)  # the alternatives come with the tests' requirements
        os.chdir(str(ROOT))
        command = ["-m", "benchmarks", *arguments[1:]]
    else:
        # Those who change the SQL need what the tests need: the linter, the formatter of what is generated.
        python = environment(TESTS if arguments[0] in ("check", "generate") else COMMANDS)
        command = ["-P", "-m", "kalshidb", *arguments]
    sys.stdout.flush()
    if os.name == "nt":
        sys.exit(subprocess.call([str(python), *command]))
    os.execv(str(python), [str(python), *command])


def parallel(arguments: "list[str]") -> "list[str]":
    """Use two workers, unless the caller decides about that, or wants to talk to the running test."""
    decided = {"--numprocesses", "--dist", "--pdb", "--trace", "-s", "--capture", "--collect-only", "--co", "--version"}
    if any(argument.startswith("-n") or argument.split("=")[0] in decided for argument in arguments):
        return []
    return ["-n", "2"]


# The environment


def environment(requirements: str) -> Path:
    """Return the Python of a virtual environment that has these requirements, made or completed if need be."""
    venv = place(requirements)
    if installed(venv, requirements):
        return python_of(venv)
    with one_at_a_time():
        if not installed(venv, requirements):  # else another process has just done it
            print("Setting up (once) in {} …".format(venv), file=sys.stderr, flush=True)
            set_up(venv, requirements)
    return python_of(venv)


def place(requirements: str) -> Path:
    """Return where the virtual environment with these requirements is or shall be."""
    if os.environ.get("KALSHIDB_VENV"):
        return Path(os.environ["KALSHIDB_VENV"]).expanduser().absolute()
    here = ROOT / ".venv"
    if here.exists():
        # Somebody else's will do when it is complete, as nothing is written then.
        if installed(here, requirements) or (owned(here) and os.access(str(here), os.W_OK)):
            return here
    elif os.access(str(ROOT), os.W_OK):
        return here
    name = "venv-" + hashlib.sha256(str(ROOT).encode()).hexdigest()[:12]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "kalshidb"
    try:
        cache.mkdir(parents=True, exist_ok=True)
        if os.access(str(cache), os.W_OK):
            return cache / name
    except OSError:
        pass
    private = Path(tempfile.gettempdir()) / "kalshidb-{}".format(os.getuid())
    with contextlib.suppress(FileExistsError):
        private.mkdir(mode=0o700)
    if private.is_symlink() or not owned(private) or stat.S_IMODE(private.stat().st_mode) & 0o022:
        sys.exit(
            "This folder cannot be written to, nor can {} or {}.\n"
            "Set KALSHIDB_VENV to a folder for the virtual environment.".format(cache, private)
        )
    return private / name


def owned(path: Path) -> bool:
    """Say whether a path is this user's."""
    return not hasattr(os, "getuid") or path.stat().st_uid == os.getuid()


def python_of(venv: Path) -> Path:
    """Return the interpreter of a virtual environment."""
    return venv / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def fingerprint(requirements: str) -> str:
    """Return what changes when the environment has to be made again for these requirements."""
    parts = [(ROOT / name).read_bytes() for name in (requirements, "pyproject.toml")]
    return hashlib.sha256(b"\0".join([*parts, str(ROOT).encode()])).hexdigest()


def stamp_of(venv: Path) -> "dict[str, str]":
    """Return which requirements an environment was completed with, and for which Python; empty when it was not."""
    try:
        found = json.loads((venv / ".kalshidb-installed").read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def installed(venv: Path, requirements: str) -> bool:
    """Say whether an environment is complete for these requirements; the tests' contain those of the commands."""
    stamp = stamp_of(venv)
    python = os.path.realpath(str(python_of(venv)))  # another one after the system's Python was replaced
    return (
        stamp.get("python") == python
        and os.access(python, os.X_OK)
        and any(stamp.get(name) == fingerprint(name) for name in {requirements, TESTS})
    )


@contextlib.contextmanager
def one_at_a_time() -> "Iterator[None]":
    """Let one process at a time set up. This file itself is the lock, as the folder may be read-only."""
    try:
        import fcntl  # noqa: PLC0415  (not on Windows)
    except ImportError:
        yield
        return
    with open(__file__, "rb") as lock:  # noqa: PTH123
        with contextlib.suppress(OSError):  # a file system without locks
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                print("Waiting for another process that is setting up …", file=sys.stderr, flush=True)
                fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def set_up(venv: Path, requirements: str) -> None:
    """Make or complete an environment.

    Its stamp goes first and comes last, so that an interrupted one is known as such. Only an environment that was made
    here is ever removed; into somebody's own, the requirements are installed as it is.
    """
    stamp, made_here = venv / ".kalshidb-installed", venv / ".kalshidb-made"
    if TESTS in stamp_of(venv):
        requirements = TESTS  # a later change does not take the tests' tools away
    if made_here.exists() and not (stamp.exists() and works(venv)):
        shutil.rmtree(str(venv))  # interrupted, or its Python is gone
    if not venv.exists() or not any(venv.iterdir()):
        venv.mkdir(parents=True, exist_ok=True)
        made_here.touch()
        create(venv)
    elif not works(venv):
        sys.exit(
            "{} was not made by run.py, and is no Python {}.{} or newer with pip.\n"
            "Remove it, or set KALSHIDB_VENV to another folder.".format(venv, OLDEST[0], OLDEST[1])
        )
    with contextlib.suppress(FileNotFoundError):
        stamp.unlink()
    pip(venv, "--require-hashes", "-r", str(ROOT / requirements))
    pip(venv, "--no-deps", "--no-build-isolation", "--no-index", "-e", ".")
    python = os.path.realpath(str(python_of(venv)))
    stamp.write_text(json.dumps({"python": python, requirements: fingerprint(requirements)}))


def works(venv: Path) -> bool:
    """Say whether an environment has a Python that is new enough, and pip."""
    check = "import sys, pip; sys.exit(sys.version_info < {!r})".format(OLDEST)
    try:
        return subprocess.run([str(python_of(venv)), "-I", "-c", check], capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def create(venv: Path) -> None:
    """Make an empty virtual environment with pip in it."""
    try:
        import ensurepip  # noqa: F401, PLC0415  (Debian and Ubuntu keep it in a package of its own)
    except ImportError:
        uv = shutil.which("uv")
        if uv is not None:
            subprocess.run([uv, "venv", "-q", "--seed", "--allow-existing", "--python", sys.executable, str(venv)], check=True)
            return
        shutil.rmtree(str(venv))
        sys.exit(
            "This Python cannot make virtual environments: its ensurepip is missing. On Debian and Ubuntu:\n"
            "    {}apt-get update && {}apt-get install -y python{}.{}-venv\n"
            "Elsewhere, install uv, or a complete Python.".format(
                *["" if os.geteuid() == 0 else "sudo "] * 2, *sys.version_info[:2]
            )
        )
    made = run([sys.executable, "-I", "-m", "venv", str(venv)])
    if made.returncode:
        sys.exit("The virtual environment could not be made:\n" + made.stdout)


def run(command: "list[str]") -> "subprocess.CompletedProcess[str]":
    """Run a program in the project's folder, keeping what it says to ourselves."""
    return subprocess.run(
        command,
        cwd=str(ROOT),
        env=dict(os.environ, PIP_USER="0"),  # a user's wish for --user installs would be refused in an environment
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


UNREACHABLE = ("NewConnectionError", "Max retries", "Temporary failure", "No matching distribution", "ConnectTimeout")


def pip(venv: Path, *arguments: str) -> None:
    """Install into an environment; end with what pip said and what to do when that fails."""
    quiet = ["-q", "--no-input", "--disable-pip-version-check"]
    ran = run([str(python_of(venv)), "-I", "-m", "pip", "install", *quiet, *arguments])
    if ran.returncode == 0:
        return
    said = ran.stdout.strip()
    if any(sign in said for sign in UNREACHABLE):
        advice = (
            "The packages could not be downloaded. The first run needs a package index: check the network (and\n"
            "HTTPS_PROXY or PIP_INDEX_URL, if there is a proxy or an index of your own), then run this again."
        )
    elif "No space left" in said:
        advice = "The disk is full. Make room (about 500 MB) or set KALSHIDB_VENV to another disk, then run this again."
    elif "DO NOT MATCH THE HASHES" in said or "THESE PACKAGES DO NOT MATCH" in said:
        advice = "A package is not the one that {} pins. Do not go on before you know why.".format(arguments[-1])
    else:
        advice = "Setting up has failed. Run this again to start over."
    sys.exit(said[-3000:] + "\n\n" + advice)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except KeyboardInterrupt:
        sys.exit("Interrupted. Run this again to go on.")
