#!/bin/sh
# Changes a board, and reads back what came of it. Run as: sh -s -- VERB ARGUMENTS <control.sh
#
# Answers are lines of a word and a value. Nothing here reads standard input but the shell itself,
# so that no program can find an answer to a question there. All code stands in functions: a text
# that was cut short when its sender died does nothing.

root=${ELFATT_DEPLOY_ROOT:-}
lock=$root/tmp/elfatt-deploy.lock

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi
}

# First line of a file of the board; that of a debug file through root. Fails where it is empty.
value_of() {
    value=
    if [ -r "$root$1" ]; then
        { read -r value <"$root$1"; } 2>/dev/null
    else
        case $1 in
        /sys/kernel/debug/*) value=$(as_root cat "$root$1" 2>/dev/null | head -n 1) ;;
        esac
    fi
    [ -n "$value" ]
}

tell_file() {
    if value_of "$1"; then printf 'file %s %s\n' "$1" "$value"; else printf 'absent %s\n' "$1"; fi
}

tell_boot() {
    value_of /proc/sys/kernel/random/boot_id && printf 'boot-id %s\n' "$value"
    value_of /proc/uptime && printf 'uptime %s\n' "${value%% *}"
    return 0
}

# Output of a command a line each, then its status.
tell_run() {
    said=$("$@" </dev/null 2>&1)
    status=$?
    if [ -n "$said" ]; then printf '%s\n' "$said" | sed 's/^/said /'; fi
    printf 'status %s\n' "$status"
}

state() {
    tell_boot
    value_of /sys/devices/system/cpu/online && printf 'online %s\n' "$value"
    for path in "$root"/sys/devices/system/cpu/cpu[0-9]*/cpufreq/scaling_*_freq \
        "$root"/sys/devices/system/cpu/cpu[0-9]*/cpufreq/scaling_governor \
        "$root"/sys/class/devfreq/*/*_freq "$root"/sys/class/devfreq/*/governor; do
        if [ -e "$path" ]; then tell_file "${path#"$root"}"; fi
    done
    for path; do tell_file "$path"; done
    if command -v systemctl >/dev/null 2>&1; then
        printf 'fan %s\n' "$(systemctl is-active nvfancontrol 2>/dev/null </dev/null)"
    fi
    tell_run nvpmodel -q
}

store() {
    mkdir -p "${1%/*}" && rm -f "$1" || return 1
    tell_run as_root jetson_clocks --store "$1"
    if [ -e "$1" ]; then printf 'stored %s\n' "$1"; fi
}

# Which mode the next start of the board applies; other words of the file stay.
pending() {
    file=$root/var/lib/nvpmodel/status
    word=$(printf 'pmode:%04d' "$1")
    text=$(as_root cat "$file" 2>/dev/null)
    case $text in
    *pmode:*) text=$(printf '%s\n' "$text" | sed "s/pmode:[0-9]*/$word/") ;;
    *) text=$word ;;
    esac
    printf '%s\n' "$text" | as_root tee "$file" 2>&1 >/dev/null | sed 's/^/said /'
    if value_of /var/lib/nvpmodel/status; then printf 'pending %s\n' "$value"; fi
}

# take TOKEN OWNER: the owner is the text of a file, one `key=value` a line.
take() {
    if mkdir "$lock" 2>/dev/null; then
        if printf '%s\n' "$2" >"$lock/new" && mv "$lock/new" "$lock/owner"; then
            echo "taken"
        else
            rm -rf "$lock"
            echo "unwritable"
        fi
    elif [ -d "$lock" ]; then
        echo "held"
        if [ -e "$lock/owner" ]; then
            sed 's/^/owner /' "$lock/owner"
        elif [ -n "$(find "$lock" -maxdepth 0 -mmin +1 2>/dev/null)" ]; then
            echo "abandoned"
        fi
    else
        echo "unwritable"
    fi
}

# Whether the lock in a folder bears a token; no token means that it names no owner.
bears() {
    if [ -z "$2" ]; then [ ! -e "$1/owner" ]; else grep -q "^token=$2\$" "$1/owner" 2>/dev/null; fi
}

# drop TOKEN: takes the lock away if it bears this token. It is looked at once more when nobody else
# can take it, for it may have changed hands meanwhile.
drop() {
    aside=$lock.$$
    bears "$lock" "$1" && mv "$lock" "$aside" 2>/dev/null || return 0
    if bears "$aside" "$1"; then
        rm -rf "$aside" && echo "dropped"
    else
        mv "$aside" "$lock"
    fi
}

main() {
    verb=$1
    shift
    case $verb in
    boot) tell_boot ;;
    state) state "$@" ;;
    mode) tell_run as_root nvpmodel -m "$1" ;;
    store) store "$root$1" ;;
    pin) tell_run as_root jetson_clocks ;;
    pin-and-fan) tell_run as_root jetson_clocks --fan ;;
    unpin) tell_run as_root jetson_clocks --restore "$root$1" ;;
    has) if [ -e "$root$1" ]; then echo "file $1 present"; fi ;;
    forget) for path; do rm -f "$root$path"; done ;;
    pending) pending "$1" ;;
    reboot) tell_run as_root reboot ;;
    take) take "$1" "$2" ;;
    drop) drop "$1" ;;
    *) echo "no such verb: $verb" >&2; return 2 ;;
    esac
    echo "end"
}

main "$@"
