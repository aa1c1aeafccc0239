#!/bin/sh
# Samples files of a board at a steady pace. It lies on the board while it does, for what it starts is
# this file again, in a session of its own that no end of a connection ends.
#
#   start FOLDER SECONDS LIFE PATH...       one line a sample: uptime, then a word of each file
#   start-tegrastats FOLDER SECONDS LIFE    one line a sample: uptime, then a line of tegrastats
#   read FOLDER BYTE                        what was written from that byte (the first is 1) on
#   stop FOLDER                             ends it and waits until it has ended
#   forget FOLDER                           takes the folder away
#
# A file that cannot be read leaves a `-`, never a 0. Nothing is started for a value: all are read by
# the shell itself, and only `sleep` is another program. All code stands in functions: a text that
# was cut short when its sender died does nothing.

root=${ELFATT_DEPLOY_ROOT:-}
clock=$root/proc/uptime
lock=$root/tmp/elfatt-deploy.lock

# Who has the board; nobody is an empty text.
holder() {
    who=
    { read -r who <"$lock/owner"; } 2>/dev/null
}

begin() {
    holder
    began=$who
    read -r now _ <"$clock"
    end=$((${now%%.*} + $1))
}

# Whether it is time to end: the file `stop` is there, the life is over, or the run that has started
# this has left the board, killed or not.
over() {
    if [ -e stop ]; then return 0; fi
    if [ "${now%%.*}" -ge "$end" ]; then echo "# the time is over" && return 0; fi
    if [ -n "$began" ]; then
        holder
        if [ "$who" != "$began" ]; then echo "# the board has changed hands" && return 0; fi
    fi
    return 1
}

# The samples. $1 is the pause, $2 the life.
sample() {
    pause=$1
    begin "$2"
    shift 2
    while read -r now _ <"$clock" && ! over; do
        line=$now
        for path; do
            value=
            { read -r value _ <"$root$path"; } 2>/dev/null
            line="$line ${value:--}"
        done
        printf '%s\n' "$line" || return
        sleep "$pause" || return
    done
}

# The same for lines that come by themselves.
stamp() {
    begin "$1"
    while IFS= read -r line; do
        read -r now _ <"$clock"
        if over; then return; fi
        printf '%s %s\n' "$now" "$line" || return
    done
    echo "# tegrastats has ended"
}

# Where a folder of the board lies; one that was made by another program there says so already.
place() {
    printf '%s' "$root${1#"$root"}"
}

# Makes the folder and goes there.
enter() {
    umask 077
    mkdir -p "$(place "$1")" && cd "$(place "$1")" && rm -f stop ended
}

# Runs this file again, detached; its output is the file `samples`.
detach() {
    if command -v setsid >/dev/null 2>&1; then
        setsid sh "$0" "$@" </dev/null >samples 2>errors &
    else
        nohup sh "$0" "$@" </dev/null >samples 2>errors &
    fi
    echo "started $!"
}

start() {
    enter "$1" || return
    pause=$2
    life=$3
    shift 3
    # the sleep of some busybox takes whole seconds alone
    if ! sleep 0.01 2>/dev/null; then pause=1; fi
    echo "pause $pause"
    detach sample "$pause" "$life" "$@"
}

start_tegrastats() {
    enter "$1" || return
    command -v tegrastats >/dev/null || return
    detach tegrastats "$(awk -v s="$2" 'BEGIN { printf "%d", s * 1000 }')" "$3"
}

stop() {
    cd "$(place "$1")" 2>/dev/null || return
    : >stop
    for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
        if [ -e ended ]; then return; fi
        sleep 0.2 2>/dev/null || sleep 1
    done
}

main() {
    verb=$1
    shift
    case $verb in
    start) start "$@" ;;
    start-tegrastats) start_tegrastats "$@" ;;
    sample)
        sample "$@"
        : >ended
        ;;
    tegrastats)
        tegrastats --interval "$1" 2>errors | stamp "$2"
        : >ended
        ;;
    read)
        if cd "$(place "$1")" 2>/dev/null && [ -e samples ]; then
            echo "from $2"
            tail -c "+$2" samples
        else
            echo "absent"
        fi
        ;;
    stop) stop "$1" ;;
    forget) rm -rf "$(place "${1:?}")" ;;
    *) echo "no such verb: $verb" >&2 && return 2 ;;
    esac
}

main "$@"
