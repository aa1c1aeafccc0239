"""The small programs of a simulated board that are shell: fast, and they only start others."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import sys
from pathlib import Path

from elfatt_deploy.device.sim.faults import ENVIRONMENT
from elfatt_deploy.device.sim.machine import DOWN_FILE, FAULTS_FILE, FOLDER_VARIABLE, ROOT_VARIABLE
from elfatt_deploy.device.sim.programs import GONE, PROGRAMS

#: the user of a simulated board, as on a fresh JetPack
USER_ID = 1000

_STARTER = """\
import sys

sys.path[0] = {package!r}
from elfatt_deploy.device.sim.programs import main

sys.exit(main({folder!r}, sys.argv[1], sys.argv[2:]))
"""

_PROGRAM = """\
#!/bin/sh
# a program of a simulated board
exec {python} {starter} "$0" "$@"
"""

_SUDO = """\
#!/bin/sh
# sudo of a simulated board: what it runs is not root, the emulated programs take it for root
case ",${ENVIRONMENT:-},$(cat {faults} 2>/dev/null)" in
*[,\\"]no-root[,:\\"]*)
    echo "sudo: a password is required" >&2
    exit 1
    ;;
esac
while [ $# -gt 0 ]; do
    case $1 in
    -n | -E | -H) shift ;;
    -v | -l) exit 0 ;;
    --) shift && break ;;
    -*) echo "sudo: unknown option $1" >&2 && exit 1 ;;
    *) break ;;
    esac
done
[ $# -gt 0 ] || exit 1
ROOT_VARIABLE=1
export ROOT_VARIABLE
exec "$@"
"""

_ID = """\
#!/bin/sh
# id of a simulated board
case $* in
-u) if [ "${ROOT_VARIABLE:-0}" = 1 ]; then echo 0; else echo USER_ID; fi ;;
-un) if [ "${ROOT_VARIABLE:-0}" = 1 ]; then echo root; else echo nvidia; fi ;;
*) exec {id} "$@" ;;
esac
"""

_SYSTEMCTL = """\
#!/bin/sh
# systemctl of a simulated board
case $1 in
reboot) exec reboot ;;
is-active) echo inactive && exit 3 ;;
*) exit 1 ;;
esac
"""

_DF = """\
#!/bin/sh
# df of a simulated board: the room that the fault disk-full leaves
said=",${ENVIRONMENT:-},$(cat {faults} 2>/dev/null)"
case $said in
*[,\\"]disk-full[,:\\"]*)
    room=${said#*disk-full}
    room=${room#:}
    room=${room%%[!0-9]*}
    echo "Filesystem 1024-blocks Used Available Capacity Mounted on"
    echo "/dev/mmcblk0p1 30000000 $((30000000 - ${room:-0} * 1024)) $((${room:-0} * 1024)) 99% /"
    ;;
*) exec {df} "$@" ;;
esac
"""

_SHELL_PROGRAMS = {"sudo": _SUDO, "id": _ID, "systemctl": _SYSTEMCTL, "df": _DF}

#: ForceCommand of an SSH server that stands for the board: nothing answers while it reboots
_LOGIN = """\
#!/bin/sh
# login of a simulated board
until=$(cat {down} 2>/dev/null)
now=$(date +%s)
if [ "${now:-0}" -lt "$(printf '%.0f' "${until:-0}")" ]; then exit GONE; fi
{exports}
cd {home} || exit GONE
if [ -n "${SSH_ORIGINAL_COMMAND:-}" ]; then exec /bin/sh -c "$SSH_ORIGINAL_COMMAND"; fi
exec /bin/sh
"""


def environment(folder: Path, path: str) -> dict[str, str]:
    """Return what the environment of a process on the board has more.

    Args:
        folder: of the board.
        path: PATH of this machine, which comes after the board's programs.
    """
    return {
        "PATH": f"{folder / 'bin'}:{path}",
        "ELFATT_DEPLOY_ROOT": str(folder / "root"),
        FOLDER_VARIABLE: str(folder),
        "TMPDIR": str(folder / "root" / "tmp"),
    }


def write_programs(folder: Path, path: str, *, trtexec: bool = True) -> None:
    """Write `bin/`, `login` and what they need.

    Args:
        folder: of the board.
        path: PATH of this machine.
        trtexec: whether the board has one.
    """
    package = Path(__file__).resolve().parents[3]
    starter = folder / "program.py"
    _write_program(starter, _STARTER.format(package=str(package), folder=str(folder)))
    started = _PROGRAM.format(python=shlex.quote(sys.executable), starter=shlex.quote(str(starter)))
    words = {
        "ENVIRONMENT": ENVIRONMENT,
        "ROOT_VARIABLE": ROOT_VARIABLE,
        "USER_ID": str(USER_ID),
        "GONE": str(GONE),
        "{faults}": shlex.quote(str(folder / FAULTS_FILE)),
        "{down}": shlex.quote(str(folder / DOWN_FILE)),
        "{id}": _real("id", folder, path),
        "{df}": _real("df", folder, path),
        "{home}": shlex.quote(str(folder / "root" / "home" / "nvidia")),
        "{exports}": "\n".join(
            f"export {name}={shlex.quote(value)}"
            for name, value in environment(folder, path).items()
        ),
    }
    jetpack = folder / "root" / "usr" / "src" / "tensorrt" / "bin" / "trtexec"
    for file in (*(folder / "bin" / name for name in PROGRAMS), jetpack):
        if trtexec or file.name != "trtexec":
            _write_program(file, started)
        else:
            file.unlink(missing_ok=True)
    for name, text in _SHELL_PROGRAMS.items():
        _write_program(folder / "bin" / name, _filled(text, words))
    _write_program(folder / "login", _filled(_LOGIN, words))


def _real(name: str, folder: Path, path: str) -> str:
    """Return the program of this machine that one of the board stands for."""
    others = [part for part in path.split(os.pathsep) if Path(part) != folder / "bin"]
    return shlex.quote(shutil.which(name, path=os.pathsep.join(others)) or f"/usr/bin/{name}")


def _filled(text: str, words: dict[str, str]) -> str:
    for word, value in words.items():
        text = text.replace(word, value)
    return text


def _write_program(path: Path, text: str) -> None:
    """Write a program unless it is there; it is replaced whole, for others may be starting it."""
    with contextlib.suppress(FileNotFoundError):
        if path.read_text(encoding="utf-8") == text:
            return
    path.parent.mkdir(parents=True, exist_ok=True)
    work = path.with_name(f".{path.name}.{os.getpid()}")
    work.write_text(text, encoding="utf-8")
    work.chmod(0o755)
    os.replace(work, path)
