#!/bin/sh
# From PACS to run: receive C-STORE until the intake is quiet, de-identify, distil.
#
#   MEDIDISTILL_SPOOL   folder that `medidistill receive` writes into; holds identified images   (required)
#   MEDIDISTILL_CLEAN   folder for the de-identified copies                                       (required)
#   MEDIDISTILL_RUNS    folder for the runs                                                       (required)
#   MEDIDISTILL_KEY     key file of the de-identification, readable by its owner alone            (required)
#   MEDIDISTILL_LABELS  CSV of labels by sop_instance_uid or accession_number                     (required)
#   MEDIDISTILL_CONFIG  YAML file or ready-made configuration                                     (default: standard)
#   MEDIDISTILL_RECEIVE options of `medidistill receive`, with an end: --idle or --count          (default: --idle 600)
#   MEDIDISTILL         the command                                                               (default: medidistill)
set -eu
umask 077
spool=${MEDIDISTILL_SPOOL:?names no spool folder}
clean=${MEDIDISTILL_CLEAN:?names no folder for the de-identified images}
runs=${MEDIDISTILL_RUNS:?names no folder for the runs}
key=${MEDIDISTILL_KEY:?names no key file}
labels=${MEDIDISTILL_LABELS:?names no table of labels}
medidistill=${MEDIDISTILL:-medidistill}
stamp=$(date -u +%Y-%m-%dT%H%M%S)

# shellcheck disable=SC2086  # $medidistill and the options are command lines
$medidistill receive "$spool/$stamp" ${MEDIDISTILL_RECEIVE:---idle 600}
# shellcheck disable=SC2086
$medidistill deidentify "$spool/$stamp" "$clean/$stamp" --key-file "$key" --labels "$labels" --quiet
# shellcheck disable=SC2086
exec $medidistill run --config "${MEDIDISTILL_CONFIG:-standard}" --input "$clean/$stamp/images" --output "$runs/$stamp" --quiet
