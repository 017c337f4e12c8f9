#!/bin/sh
# One night's run: folder in, folder out. Called by cron or by medidistill-nightly.service.
#
#   MEDIDISTILL_INBOX   folder of X-rays with labels.csv                      (required)
#   MEDIDISTILL_RUNS    folder that receives one run folder a night           (required)
#   MEDIDISTILL_CONFIG  YAML file or ready-made configuration                 (default: standard)
#   MEDIDISTILL         the command                                           (default: medidistill)
#
# A run that was stopped is continued, not begun again; a night without new files does nothing. Exit codes are those
# of medidistill; after a failure a support package without patient values lies beside the run.
set -eu
umask 077
inbox=${MEDIDISTILL_INBOX:?names no folder of X-rays}
runs=${MEDIDISTILL_RUNS:?names no folder for the runs}
config=${MEDIDISTILL_CONFIG:-standard}
medidistill=${MEDIDISTILL:-medidistill}

mkdir -p "$runs"
exec 9>"$runs/.nightly.lock"
flock --nonblock 9 || { echo "the run of the night before is still at work" >&2; exit 0; }

# names, sizes and times of the input; the list itself may name patients and is not kept
listing=$(cd "$inbox" && find . -type f -printf '%P %s %T@\n' | LC_ALL=C sort | sha256sum | cut -d ' ' -f 1)
last=$(find "$runs" -mindepth 1 -maxdepth 1 -type d -name '20*' | LC_ALL=C sort | tail -n 1)

if [ -n "$last" ] && [ ! -e "$last/nightly.done" ]; then
  output=$last
  again=--resume
elif [ -n "$last" ] && [ "$(cat "$last/nightly.done")" = "$listing" ]; then
  echo "no new files in the inbox; nothing to do"
  exit 0
else
  output=$runs/$(date -u +%Y-%m-%dT%H%M%S)
  again=
fi

code=0
# shellcheck disable=SC2086  # $again is one option or none, $medidistill a command line
if [ -e "$output/run.yaml" ]; then
  $medidistill run --output "$output" $again --quiet || code=$?
else
  $medidistill run --config "$config" --input "$inbox" --output "$output" --quiet || code=$?
fi
case $code in
  0)
    $medidistill clean "$output" # patients' pixels are needed no longer
    printf '%s\n' "$listing" > "$output/nightly.done"
    ;;
  130 | 143) echo "stopped; the next night continues $output" >&2 ;;
  *)
    rm -f "$output.support.zip"
    $medidistill support "$output" --output "$output.support.zip" || true
    ;;
esac
exit "$code"
