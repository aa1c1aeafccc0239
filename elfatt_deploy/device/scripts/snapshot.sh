#!/bin/sh
# What a board tells about itself, in one go; read from standard input by `sh -s`.
#
# POSIX shell; on the board it needs cat, df, id, sed, tr, uname and, where they are there, nvpmodel,
# sudo and timeout. It starts about 16 processes, and one more for each file that cannot be read. It
# changes nothing, and reads no serial number.
#
# A line is one of
#   @SECTION            what follows belongs to this section
#   =PATH <TAB> VALUE   a reading
#   !PATH <TAB> ERROR   a file that is there and cannot be read, and why; never a 0 in its place
#   |TEXT               a line of a text that the last reading begins
# or empty.
# A file that is not there leaves no line. On an emulated board every path lies under a root.

R=${ELFATT_DEPLOY_ROOT:-}
LC_ALL=C
export LC_ALL

# The shell reads by itself, for a process takes milliseconds on a small board. It does not say why
# a reading failed, so cat is asked then.
value() {
  line=
  if { IFS= read -r line <"$R$1"; } 2>/dev/null || [ -n "$line" ]; then
    printf '=%s\t%s\n' "$1" "$line"
  elif [ -e "$R$1" ]; then
    error=$(cat "$R$1" 2>&1 >/dev/null </dev/null)
    printf '!%s\t%s\n' "$1" "${error##*: }"
  fi
}

values() {
  for path in "$@"; do
    value "$path"
  done
}

# Values of the device tree end in, and are parted by, a zero byte.
tree_value() {
  if [ -e "$R$1" ]; then
    printf '=%s\t%s\n' "$1" "$(tr '\000' ' ' <"$R$1" 2>/dev/null)"
  fi
}

text() {
  if [ -r "$R$1" ]; then
    printf '=%s\t\n' "$1"
    sed 's/^/|/' "$R$1" </dev/null
    echo # the last line of a file may have no end
  elif [ -e "$R$1" ]; then
    printf '!%s\tPermission denied\n' "$1"
  fi
}

command_text() {
  name=$1
  shift
  said=$("$@" 2>&1 </dev/null)
  printf '=%s\t%s\n' "$name" "$?"
  printf '%s\n' "$said" | sed 's/^/|/'
}

# What only root may read; run in this shell, or by one sudo for all of it.
# shellcheck disable=SC2016
ROOT_PART='
show() {
  line=
  if { IFS= read -r line <"$R$1"; } 2>/dev/null || [ -n "$line" ]; then
    printf "=%s\t%s\n" "$1" "$line"
  elif [ -e "$R$1" ]; then
    printf "!%s\tcannot be read\n" "$1"
  fi
}
D=/sys/kernel/debug
for f in bpmp/debug/clk/emc/rate bpmp/debug/clk/emc/min_rate bpmp/debug/clk/emc/max_rate \
  clk/override.emc/clk_rate tegra_bwmgr/emc_min_rate tegra_bwmgr/emc_max_rate; do
  show "$D/$f"
done
if [ -r "$R$D/nvmap/iovmm/clients" ]; then
  printf "=%s\t\n" "$D/nvmap/iovmm/clients"
  sed "s/^/|/" "$R$D/nvmap/iovmm/clients" </dev/null
fi
'

printf '#elfatt-deploy snapshot 1\n'

echo @system
values /proc/uptime /proc/loadavg /proc/sys/kernel/osrelease /proc/sys/kernel/arch \
  /etc/nv_tegra_release /etc/elfatt-deploy-simulated
if [ -e "$R/etc/elfatt-deploy-simulated" ]; then
  printf '=simulated\t1\n'
fi
printf '=uname\t%s\n' "$(uname -m)"
for path in /proc/device-tree/model /proc/device-tree/compatible \
  /proc/device-tree/nvidia,dtsfilename; do
  tree_value "$path"
done
if [ -r "$R/etc/nv_boot_control.conf" ]; then
  while IFS= read -r line; do
    case $line in
      TNSPEC* | COMPATIBLE_SPEC*) printf '=/etc/nv_boot_control.conf\t%s\n' "$line" ;;
    esac
  done <"$R/etc/nv_boot_control.conf"
fi
if [ "$(id -u)" = 0 ]; then
  ROOT=self
elif command -v sudo >/dev/null 2>&1 && sudo -n true >/dev/null 2>&1 </dev/null; then
  ROOT=sudo
else
  ROOT=no
fi
printf '=root\t%s\n' "$ROOT"

echo @memory
if [ -r "$R/proc/meminfo" ]; then
  while IFS= read -r line; do
    case $line in
      MemTotal:* | MemAvailable:* | SwapTotal:* | SwapFree:*)
        printf '=/proc/meminfo\t%s\n' "$line"
        ;;
    esac
  done <"$R/proc/meminfo"
fi
WORK=${TMPDIR:-$R/tmp}
printf '=work\t%s\n' "$WORK"
command_text df df -Pk "$WORK"

echo @software
for path in "$R"/usr/local/cuda-[0-9]*; do
  if [ -d "$path" ]; then
    printf '=cuda\t%s\n' "${path#"$R"}"
  fi
done
text /usr/local/cuda/version.json
value /usr/local/cuda/version.txt
for path in "$R"/usr/lib/aarch64-linux-gnu/libnvinfer.so.* \
  "$R"/usr/lib/x86_64-linux-gnu/libnvinfer.so.*; do
  if [ -e "$path" ]; then
    printf '=libnvinfer\t%s\n' "${path#"$R"}"
  fi
done
if [ -x "$R/usr/src/tensorrt/bin/trtexec" ]; then
  printf '=trtexec\t%s\n' "$R/usr/src/tensorrt/bin/trtexec"
elif command -v trtexec >/dev/null 2>&1; then
  printf '=trtexec\t%s\n' "$(command -v trtexec)"
fi
for path in "$R"/usr/bin/python3.[0-9] "$R"/usr/bin/python3.[0-9][0-9]; do
  if [ -x "$path" ]; then
    printf '=python\t%s\n' "${path#"$R"}"
  fi
done

echo @cpu
values /sys/devices/system/cpu/present /sys/devices/system/cpu/online
for path in "$R"/sys/devices/system/cpu/cpu[0-9]*/cpufreq; do
  folder=${path#"$R"}
  values "$folder/scaling_cur_freq" "$folder/scaling_min_freq" "$folder/scaling_max_freq" \
    "$folder/scaling_governor"
done

echo @gpu
for path in "$R"/sys/class/devfreq/*.gpu "$R"/sys/class/devfreq/*.g[apv]1[01]b \
  "$R"/sys/class/devfreq/gpu-gpc-* "$R"/sys/devices/gpu.0/devfreq/*.gpu \
  "$R"/sys/devices/17000000.g*/devfreq/17000000.g* "$R"/sys/devices/17000000.g*/devfreq_dev \
  "$R"/sys/devices/platform/17000000.g*/devfreq_dev; do
  if [ -d "$path" ]; then
    folder=${path#"$R"}
    values "$folder/cur_freq" "$folder/min_freq" "$folder/max_freq" "$folder/governor"
  fi
done
values /sys/devices/gpu.0/tpc_pg_mask /sys/devices/platform/gpu.0/tpc_pg_mask

echo @thermal
for path in "$R"/sys/class/thermal/thermal_zone*; do
  folder=${path#"$R"}
  values "$folder/type" "$folder/temp"
done
for path in "$R"/sys/class/thermal/cooling_device*; do
  folder=${path#"$R"}
  values "$folder/type" "$folder/cur_state"
done

echo @hwmon
for path in "$R"/sys/class/hwmon/hwmon* "$R"/sys/bus/i2c/drivers/ina3221/*/hwmon/hwmon*; do
  [ -d "$path" ] || continue
  folder=${path#"$R"}
  name=
  { IFS= read -r name <"$path/name"; } 2>/dev/null
  case $folder in
    */ina3221/*) name=${name:-ina3221} ;;
  esac
  if [ -n "$name" ]; then
    printf '=%s\t%s\n' "$folder/name" "$name"
  fi
  case $name in
    ina*)
      for n in 1 2 3 4 5 6 7 8; do
        values "$folder/in${n}_label" "$folder/in${n}_input" "$folder/curr${n}_input"
      done
      ;;
    soctherm_oc)
      for file in "$path"/oc*_event_cnt; do
        value "${file#"$R"}"
      done
      ;;
    pwmfan | pwm-fan) value "$folder/pwm1" ;;
    pwm_tach) value "$folder/rpm" ;;
  esac
done

echo @iio
for path in "$R"/sys/bus/i2c/drivers/ina3221x/*/iio*; do
  folder=${path#"$R"}
  for n in 0 1 2; do
    values "$folder/rail_name_$n" "$folder/in_power${n}_input" "$folder/in_voltage${n}_input" \
      "$folder/in_current${n}_input"
  done
done

echo @fan
values /sys/devices/pwm-fan/cur_pwm /sys/devices/pwm-fan/target_pwm \
  /sys/devices/pwm-fan/temp_control

echo @nvpmodel
text /etc/nvpmodel.conf
if command -v nvpmodel >/dev/null 2>&1; then
  if command -v timeout >/dev/null 2>&1; then
    command_text 'nvpmodel -q' timeout 10 nvpmodel -q
  else
    command_text 'nvpmodel -q' nvpmodel -q
  fi
fi

echo @processes
for path in "$R"/proc/[0-9]*/comm; do
  name=
  { IFS= read -r name <"$path"; } 2>/dev/null
  case $name in
    Xorg | Xwayland | gnome-shell | weston | sway | kwin_wayland | nvfancontrol)
      printf '=%s\t%s\n' "${path#"$R"}" "$name"
      ;;
  esac
done

echo @root
if [ "$ROOT" = self ] || [ -x "$R/sys/kernel/debug" ]; then
  eval "$ROOT_PART"
elif [ "$ROOT" = sudo ]; then
  sudo -n sh -c "R=\$1; $ROOT_PART" sh "$R" </dev/null
elif [ -e "$R/sys/kernel/debug" ]; then
  printf '!/sys/kernel/debug\tPermission denied\n'
fi

echo @end
