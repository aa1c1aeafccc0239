"""A real sshd on loopback: own port, own keys, own client configuration, nothing of the system's.

It runs as the user who runs the tests and lets only that user in. Its processes are ended by their
numbers. Nothing listens anywhere but on 127.0.0.1.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

#: how long anything here may take before it counts as broken
BOUND_S = 20.0
_SYSTEM_FOLDERS = os.pathsep.join(("/usr/sbin", "/usr/local/sbin", "/sbin"))

_SERVER = """\
ListenAddress 127.0.0.1
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/user_key.pub
PidFile none
StrictModes no
UsePAM no
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
PubkeyAuthentication yes
AllowUsers {user}
MaxStartups 100
LogLevel VERBOSE
{more}
"""
_CLIENT = """\
Host *
  User {user}
  IdentityFile {key}
  IdentitiesOnly yes
  IdentityAgent none
  UserKnownHostsFile {known_hosts}
  GlobalKnownHostsFile /dev/null
"""


def programs():
    """Return sshd and ssh-keygen, or None where one is missing."""
    sshd = shutil.which("sshd") or shutil.which("sshd", path=_SYSTEM_FOLDERS)
    keygen = shutil.which("ssh-keygen")
    return (sshd, keygen) if sshd and keygen and shutil.which("ssh") else None


def missing():
    """Return why no server can run here; empty where one can."""
    if programs() is None:
        return "needs ssh and sshd: apt-get install openssh-client openssh-server"
    run = Path("/run/sshd")  # where sshd, as root, wants to lock its unprivileged part in
    if os.geteuid() == 0:
        with contextlib.suppress(OSError):
            run.mkdir(mode=0o755, exist_ok=True)
        if not run.is_dir():
            return "needs /run/sshd, which sshd wants when root starts it"
    return ""


def until(condition, what):
    """Wait until something holds.

    Raises:
        AssertionError: it did not in time.
    """
    end = time.monotonic() + BOUND_S
    while not condition():
        assert time.monotonic() < end, f"not in time: {what}"
        time.sleep(0.01)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Sshd:
    """The server; used with `with`.

    Args:
        folder: for its keys and configurations.
        environment: variables that every login gets; PATH is one that can be set.
        command: forced in place of what is asked for; see ForceCommand.
    """

    def __init__(self, folder, environment=None, command=""):
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.user = getpass.getuser()
        self.port = free_port()
        self.log = self.folder / "log"
        self._process = None
        for name in ("host_key", "user_key", "other_key"):
            self._make_key(name)
        home = self.folder / "home"  # what the user's own shell does at its start is not tested
        home.mkdir(exist_ok=True)
        variables = {"HOME": home, **(environment or {})}
        more = ["SetEnv " + " ".join(f'"{k}={v}"' for k, v in variables.items())]
        more += [f"ForceCommand {command}"] if command else []
        fields = {"folder": self.folder, "user": self.user, "more": "\n".join(more)}
        (self.folder / "sshd_config").write_text(_SERVER.format(**fields))
        self.know("host_key")
        #: for `ssh -F`: the right key, and the host known
        self.config = self.client_config("config")

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *error):
        self.stop()

    @property
    def device(self):
        return f"ssh://{self.user}@127.0.0.1:{self.port}"

    def client_config(self, name, *, key="user_key", known_hosts="known_hosts", more=""):
        """Write another client configuration and return it."""
        path = self.folder / name
        text = _CLIENT.format(
            user=self.user, key=self.folder / key, known_hosts=self.folder / known_hosts
        )
        path.write_text(text + more)
        return path

    def know(self, key, known_hosts="known_hosts"):
        """Write a known_hosts in which the server has this key."""
        kind, text, *_ = (self.folder / f"{key}.pub").read_text().split()
        line = f"[127.0.0.1]:{self.port} {kind} {text}\n"
        (self.folder / known_hosts).write_text(line)

    def start(self):
        """Start it and wait until it answers."""
        sshd, _ = programs()
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                (sshd, "-D", "-e", "-f", self.folder / "sshd_config", "-p", str(self.port)),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        until(self._answers, "sshd answers")

    def stop(self):
        """End it and all its connections."""
        if self._process is None:
            return
        sessions = self.sessions()
        self._process.terminate()
        self._process.wait(BOUND_S)
        self._process = None
        _signal(sessions, signal.SIGKILL)

    def drop(self):
        """Kill the connections that stand, as a machine does that loses its power.

        What runs in them goes on. The server takes new ones.
        """
        _signal(self.sessions(), signal.SIGKILL)

    def freeze(self):
        """Stop the connections that stand without a word, as a cable does that is pulled out.

        Returns what thaws them; `stop` ends them as well.
        """
        sessions = self.sessions()
        _signal(sessions, signal.SIGSTOP)
        return lambda: _signal(sessions, signal.SIGCONT)

    def sessions(self):
        """Return the numbers of its processes that serve connections."""
        parents = _parents()
        found, wanted = [], [self._process.pid]
        while wanted:
            parent = wanted.pop()
            children = [pid for pid, (of, name) in parents.items() if of == parent and name]
            found += children
            wanted += children
        return found

    def _answers(self):
        assert self._process.poll() is None, self.log.read_text(errors="replace")
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.settimeout(1)
            probe.connect(("127.0.0.1", self.port))
            return probe.recv(4) == b"SSH-"
        return False

    def _make_key(self, name):
        _, keygen = programs()
        if not (self.folder / name).exists():
            subprocess.run(
                (keygen, "-q", "-t", "ed25519", "-N", "", "-C", "test", "-f", self.folder / name),
                check=True,
                stdin=subprocess.DEVNULL,
                timeout=BOUND_S,
            )


def _parents():
    """Return the parent of each process of an sshd, and its name."""
    found = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            pid, _, rest = stat.read_text().partition(" (")
            name, _, rest = rest.rpartition(") ")
            if name.startswith("sshd"):
                found[int(pid)] = (int(rest.split()[1]), name)
    return found


def _signal(pids, number):
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
