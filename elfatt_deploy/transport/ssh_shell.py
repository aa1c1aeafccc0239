"""What is said to the shell on the other side of an SSH connection, and how it answers.

sshd hands one text to the login shell, which may be fish or tcsh as well. So that text is always
the same short one, free of anything that shells read differently; it starts `sh`, which reads what
it shall do from its standard input. So nothing limits how long a command is but the system there.

The script marks its answers with a word that occurs nowhere else:

    WORD begun PID     on both streams; what came before is a greeting of the login shell
    WORD missing       on stderr: there is no such program
    WORD denied        on stderr: it is no program, or may not be run
    WORD ended STATUS  on stderr: the command's own status, told apart from one of ssh

Without these a status of 255 could be the command's or that of a lost connection. The script itself
ends with 0: only then have both streams come to their ends, for what is written last may arrive
first.

A command without input gets an empty one. What the connection gives as input is its lifeline then:
when that ends, because we were killed or the connection was, the process group is ended there. It
leads a group of its own, as sshd starts every session with one. Tried with dash, bash and busybox.
"""

from __future__ import annotations

import dataclasses
import re
import secrets
from collections.abc import Sequence

_BOOT = 'exec sh -c \'read -r n; eval "$(dd bs=1 count="$n" 2>/dev/null)"\' sh {word}'

_COMMAND = """\
printf '%s begun %s\\n' {word} $$
printf '%s begun %s\\n' {word} $$ >&2
{check}
{command}
"""
_NAME_CHECK = """\
command -v {program} >/dev/null 2>&1 || {{ printf '%s missing\\n' {word} >&2; exit 127; }}"""
_PATH_CHECK = """\
[ -e {program} ] || {{ printf '%s missing\\n' {word} >&2; exit 127; }}
[ -x {program} ] && [ ! -d {program} ] || {{ printf '%s denied\\n' {word} >&2; exit 126; }}"""
_WITH_INPUT = """\
{quoted}
s=$?
printf '%s ended %s\\n' {word} $s >&2
exit 0"""
# The stray `cat` of the watcher ends with the connection's input.
_WITH_LIFELINE = """\
exec 3<&0 </dev/null
{{
  cat <&3
  trap '' TERM
  kill -TERM -$$
  sleep 3
  kill -KILL -$$
}} >/dev/null 2>&1 &
w=$!
{quoted} 3<&-
s=$?
printf '%s ended %s\\n' {word} $s >&2
exec 2>/dev/null
kill -KILL $w
exit 0"""

#: Ends the process group $1 if its leader still carries the word $2, so that a number that is in
#: use again is left alone; without a word whatever is left of the group. What has ended counts as
#: gone even if nobody has asked for its status yet, as in a container without an init.
END_GROUP = """\
group=$1
lives() {
  for stat in /proc/[0-9]*/stat; do
    { read -r line <"$stat"; } 2>/dev/null || continue
    set -- ${line##*) }
    [ "$3" = "$group" ] && [ "$1" != Z ] && return 0
  done
  return 1
}
if [ -n "$2" ]; then
  tr '\\000' ' ' <"/proc/$1/cmdline" 2>/dev/null | grep -q -- "$2" || exit 0
  kill -TERM "-$1" 2>/dev/null
  for _ in 1 2 3 4 5 6 7 8 9 10; do
    lives || exit 0
    sleep 0.2
  done
fi
kill -KILL "-$1" 2>/dev/null
exit 0"""


def quoted(arguments: Sequence[str]) -> str:
    """Return arguments as words of a POSIX shell, each quoted, so that none is a keyword.

    Raises:
        ValueError: one has a null byte, which no program can get.
    """
    if any("\0" in argument for argument in arguments):
        raise ValueError("embedded null byte")
    return " ".join("'" + argument.replace("'", "'\"'\"'") + "'" for argument in arguments)


class RemoteCommand:
    """A command for the other side, and what its streams have told so far.

    Args:
        command: the program and its arguments.
        has_input: what follows the script is the command's input; otherwise it gets an empty one.
    """

    def __init__(self, command: Sequence[str], *, has_input: bool) -> None:
        """Choose the word of its markers."""
        self.word = secrets.token_hex(8)
        #: what to give to ssh
        self.line = _BOOT.format(word=self.word)
        #: what to write first to its input
        self.header = self._header(command, has_input)
        #: the leader of its process group; None before it has begun
        self.pid: int | None = None
        #: its status; None before it has ended
        self.status: int | None = None
        #: "missing" or "denied" where it could not be started
        self.refused = ""
        #: whether what it left running was ended
        self.let_go = False
        #: what ssh or the login shell said before it
        self.before: list[str] = []
        self._begun_stdout = False
        # a list of processes may show the word as well: only the whole marker counts
        self._marker = re.compile(rf"{self.word} (?P<what>[a-z]+) ?(?P<number>\d*)\n")

    def text_of(self, stream: str, line: str) -> str:
        """Return what a line has of the command's own; empty where it has nothing.

        Args:
            stream: "stdout" or "stderr".
            line: with its line break.
        """
        begun = self._begun(stream)
        # what had no line break may stand before the marker
        found = None if begun and stream == "stdout" else self._marker.search(line)
        if found:
            self._note(stream, found["what"], found["number"])
            return line[: found.start()] if begun else ""
        if not begun and stream == "stderr":
            self.before.append(line)
        return line if begun else ""

    def _header(self, command: Sequence[str], has_input: bool) -> bytes:
        fields = {"word": self.word, "program": quoted(command[:1]), "quoted": quoted(command)}
        script = _COMMAND.format(
            check=(_PATH_CHECK if "/" in command[0] else _NAME_CHECK).format(**fields),
            command=(_WITH_INPUT if has_input else _WITH_LIFELINE).format(**fields),
            **fields,
        ).encode("utf-8", errors="surrogateescape")
        return b"%d\n%b" % (len(script), script)

    def _begun(self, stream: str) -> bool:
        return self._begun_stdout if stream == "stdout" else self.pid is not None

    def _note(self, stream: str, what: str, number: str) -> None:
        if stream == "stdout":
            self._begun_stdout = True
        elif what == "begun":
            self.pid = int(number)
        elif what == "ended":
            self.status = int(number)
        else:
            self.refused = what


@dataclasses.dataclass(frozen=True, slots=True)
class Orphan:
    """A command that was cut off: its process group may still be running there.

    Args:
        pid: the leader of its group.
        word: what its leader carries as an argument.
    """

    pid: int
    word: str
