#!/bin/sh
# Runs a program and puts the machine's uptime in front of each line that it writes, on the clock of
# the power samples. The last line is its exit status.
clock="${ELFATT_DEPLOY_ROOT:-}/proc/uptime"
{
  "$@" 2>&1 </dev/null
  printf 'exit-status %s\n' "$?"
} | while IFS= read -r line; do
  read -r now _ <"$clock"
  printf '%s %s\n' "$now" "$line"
done
