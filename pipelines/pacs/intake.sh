#!/bin/sh
# From PACS to run, once: receive C-STORE until the line is quiet, then take every settled study as far as it goes.
# Called by cron it can be stopped and killed at any point: the next call goes on. Where a PACS sends at any hour, use
# medidistill-listen.service and medidistill-intake.timer instead, which do the two halves side by side.
#
#   MEDIDISTILL_INTAKE  folder of the intake; holds identified images                             (required)
#   MEDIDISTILL_KEY     key file of the de-identification, readable by its owner alone            (required)
#   MEDIDISTILL_LABELS  CSV of labels by sop_instance_uid or accession_number                     (required)
#   MEDIDISTILL_CONFIG  YAML file or ready-made configuration                                     (default: standard)
#   MEDIDISTILL_RECEIVE options of `medidistill intake listen`, with an end: --idle or --count    (default: --idle 600)
#   MEDIDISTILL_PROCESS more options of `medidistill intake process`                              (default: none)
#   MEDIDISTILL         the command                                                               (default: medidistill)
set -eu
umask 077
intake=${MEDIDISTILL_INTAKE:?names no folder of the intake}
key=${MEDIDISTILL_KEY:?names no key file}
labels=${MEDIDISTILL_LABELS:?names no table of labels}
medidistill=${MEDIDISTILL:-medidistill}

# shellcheck disable=SC2086  # $medidistill and the options are command lines
$medidistill intake listen "$intake" --quiet ${MEDIDISTILL_RECEIVE:---idle 600}
# shellcheck disable=SC2086
exec $medidistill intake process "$intake" --key-file "$key" --labels "$labels" \
  --config "${MEDIDISTILL_CONFIG:-standard}" --quiet ${MEDIDISTILL_PROCESS:-}
