"""run.py: what happens on a machine that has nothing but Python.

It runs here in a small project of the same shape, whose requirements are empty and whose build backend lies in the
project itself, so that no test needs a network.
"""

import ast
import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

BACKEND = """
import zipfile, pathlib

def build_editable(directory, config_settings=None, metadata_directory=None):
    name = "kalshidb-0-py3-none-any.whl"
    tags = "Wheel-Version: 1.0\\nGenerator: t\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n"
    with zipfile.ZipFile(pathlib.Path(directory) / name, "w") as wheel:
        wheel.writestr("kalshidb.pth", str(pathlib.Path.cwd() / "src"))
        wheel.writestr("kalshidb-0.dist-info/METADATA", "Metadata-Version: 2.1\\nName: kalshidb\\nVersion: 0\\n")
        wheel.writestr("kalshidb-0.dist-info/WHEEL", tags)
        wheel.writestr("kalshidb-0.dist-info/RECORD", "")
    return name
"""
PROGRAM = "import os, sys; print(__package__ or __name__, *sys.argv[1:], 'in', os.getcwd())"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project like ours, below a path like people's."""
    folder = tmp_path / "my project's"
    make_project(folder)
    return folder


def make_project(folder: Path) -> None:
    (folder / "src/kalshidb").mkdir(parents=True)
    shutil.copy(ROOT / "run.py", folder)
    for requirements in ("requirements.txt", "requirements-dev.txt"):
        (folder / requirements).write_text("# none\n")
    build = '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
    (folder / "pyproject.toml").write_text(build)
    (folder / "backend.py").write_text(BACKEND)
    (folder / "src/kalshidb/__init__.py").touch()
    (folder / "src/kalshidb/__main__.py").write_text(PROGRAM)
    (folder / "src/pytest.py").write_text(PROGRAM.replace("__package__ or __name__", "'tests'"))


def environment(**extra: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "PYTHON", "KALSHIDB_"))}
    return {**kept, "PYTHONDONTWRITEBYTECODE": "1", **extra}


def run(project: Path, *arguments: str, cwd: Path | None = None, **extra: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, str(project / "run.py"), *arguments]
    return subprocess.run(
        command, cwd=cwd or project, env=environment(**extra), capture_output=True, text=True, timeout=120, check=False
    )


def test_without_arguments_it_helps_and_installs_nothing(project: Path) -> None:
    result = run(project)
    assert result.returncode == 0
    assert "python3 run.py demo" in result.stdout
    assert not (project / ".venv").exists()


def test_the_first_run_sets_up_and_later_ones_just_run(project: Path, tmp_path: Path) -> None:
    first = run(project, "demo", "--fast", cwd=tmp_path)
    assert first.stdout == f"kalshidb demo --fast in {tmp_path}\n"
    assert re.fullmatch(r"Setting up \(once\) in .*\.venv …\n", first.stderr)

    closed = {"PIP_NO_INDEX": "1", "PATH": "/nowhere"}
    second = run(project, "demo", **closed)
    assert (second.stdout, second.stderr) == (f"kalshidb demo in {project}\n", "")

    # The tests' requirements are another set; once they are in, they serve commands too.
    tests = run(project, "test", "-x", cwd=tmp_path)
    assert tests.stdout == f"tests -n 2 -x in {project}\n"
    assert run(project, "test", "-n", "0").stdout == f"tests -n 0 in {project}\n"
    assert run(project, "demo", **closed).stderr == ""

    # An interrupted run leaves no stamp.
    (project / ".venv/.kalshidb-installed").unlink()
    (project / ".venv/left-over").touch()
    again = run(project, "demo")
    assert "Setting up" in again.stderr
    assert again.returncode == 0
    assert not (project / ".venv/left-over").exists()

    assert sorted(path.name for path in project.iterdir()) == sorted(
        [".venv", "backend.py", "pyproject.toml", "requirements-dev.txt", "requirements.txt", "run.py", "src"]
    )


@pytest.mark.parametrize(
    ("command", "requirements"),
    [("check", "requirements-dev.txt"), ("generate", "requirements-dev.txt"), ("load", "requirements.txt")],
)
def test_who_changes_the_sql_gets_what_the_checks_ask(monkeypatch: pytest.MonkeyPatch, command: str, requirements: str) -> None:
    monkeypatch.syspath_prepend(str(ROOT))
    import run as script

    asked: list[str] = []
    monkeypatch.setattr(script, "environment", lambda name: asked.append(name) or Path("python"))
    monkeypatch.setattr(script.os, "execv", lambda *_: None)
    script.main([command])
    assert asked == [requirements]


def test_two_first_runs_at_once_set_up_once(project: Path) -> None:
    command = [sys.executable, str(project / "run.py"), "demo"]
    both = [
        subprocess.Popen(command, cwd=project, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    answers = [process.communicate(timeout=120) for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert {out for out, _ in answers} == {f"kalshidb demo in {project}\n"}
    assert "".join(err for _, err in answers).count("Setting up") == 1


def test_an_environment_of_somebodys_own_is_completed_not_replaced(project: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", project / ".venv"], check=True)
    (project / ".venv/mine").touch()
    assert run(project, "demo").returncode == 0
    (project / ".venv/.kalshidb-installed").unlink()
    assert run(project, "demo").returncode == 0
    assert (project / ".venv/mine").exists()


def test_something_else_in_its_place_is_left_alone(project: Path) -> None:
    (project / ".venv").mkdir()
    (project / ".venv/thesis.tex").touch()
    result = run(project, "demo")
    assert result.returncode == 1
    assert "Remove it, or set KALSHIDB_VENV" in result.stderr
    assert (project / ".venv/thesis.tex").exists()


def test_without_ensurepip_it_names_the_package(project: Path, tmp_path: Path) -> None:
    (tmp_path / "ensurepip.py").write_text("raise ImportError")
    result = run(project, "demo", PYTHONPATH=str(tmp_path), PATH="/nowhere")
    major, minor = sys.version_info[:2]
    assert result.returncode == 1
    assert f"apt-get install -y python{major}.{minor}-venv" in result.stderr
    assert not (project / ".venv").exists()


def test_without_a_network_it_says_so(project: Path) -> None:
    (project / "requirements.txt").write_text(f"nothing==1 --hash=sha256:{'0' * 64}\n")
    result = run(project, "demo", PIP_INDEX_URL="http://127.0.0.1:9/simple", PIP_RETRIES="0", PIP_CONFIG_FILE=os.devnull)
    assert result.returncode == 1
    assert "could not be downloaded" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.fixture
def read_only_project() -> Iterator[tuple[Path, dict[str, object], str]]:
    """A project in a folder that its user cannot write to; how to become that user; a Python that he can run."""
    folder = Path(tempfile.mkdtemp(prefix="kalshidb-run-"))
    folder.chmod(0o755)
    make_project(folder / "project")
    user: dict[str, object] = {}
    python = sys.executable
    if os.geteuid() == 0:
        import pwd

        nobody = pwd.getpwnam("nobody")
        user = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
        python = "/usr/bin/python3"
        new_enough = [python, "-c", "import ensurepip, sys; sys.exit(sys.version_info < (3, 11))"]
        if not Path(python).exists() or subprocess.run(new_enough, check=False, capture_output=True).returncode:
            pytest.skip("the system has no Python that an ordinary user can run")
        (folder / "home").mkdir()
        os.chown(folder / "home", nobody.pw_uid, nobody.pw_gid)
    else:
        (folder / "home").mkdir()
        (folder / "project").chmod(0o555)
    yield folder, user, python
    (folder / "project").chmod(0o755)
    shutil.rmtree(folder)


def test_a_read_only_checkout_is_run_from_the_users_cache(
    read_only_project: tuple[Path, dict[str, object], str],
) -> None:
    folder, user, python = read_only_project
    before = stat.S_IMODE((folder / "project").stat().st_mode)
    result = subprocess.run(  # type: ignore[call-overload]
        [python, str(folder / "project/run.py"), "demo"],
        cwd=folder / "home",
        env=environment(HOME=str(folder / "home"), XDG_CACHE_HOME="", PATH="/usr/bin:/bin"),
        capture_output=True,
        text=True,
        check=False,
        **user,
    )
    assert (result.returncode, result.stdout) == (0, f"kalshidb demo in {folder / 'home'}\n")
    assert list((folder / "home/.cache/kalshidb").glob("venv-*"))
    assert not (folder / "project/.venv").exists()
    assert stat.S_IMODE((folder / "project").stat().st_mode) == before


def test_an_old_python_can_read_it() -> None:
    tree = ast.parse((ROOT / "run.py").read_text(), feature_version=(3, 4))
    assert not any(isinstance(node, ast.JoinedStr) for node in ast.walk(tree))  # f-strings


def test_an_old_python_is_told_what_is_needed() -> None:
    pretend = "import runpy, sys; sys.version_info = (3, 6, 15); runpy.run_path(sys.argv[1], run_name='__main__')"
    result = subprocess.run([sys.executable, "-c", pretend, ROOT / "run.py"], capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert result.stderr.startswith("kalshidb needs Python 3.11 or newer; this is ")
    assert "Traceback" not in result.stderr


def test_the_tests_requirements_contain_the_commands_ones() -> None:
    def pins(name: str) -> set[str]:
        return set(re.findall(r"^[\w.-]+==\S+", (ROOT / name).read_text(), re.MULTILINE))

    assert pins("requirements.txt") - pins("requirements-dev.txt") == set()


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-dev.txt"])
def test_requirements_are_pinned_by_hash_and_name_no_index(name: str) -> None:
    text = (ROOT / name).read_text()
    pins = re.findall(r"^[\w.-]+==\S+.*?(?=^\S|\Z)", text, re.MULTILINE | re.DOTALL)
    assert len(pins) > 30
    assert all("--hash=sha256:" in pin for pin in pins)
    assert "://" not in text
    assert "index" not in text.replace("index-", "")
