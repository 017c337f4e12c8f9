#!/bin/sh
# One night's run: folder in, folder out. Called by cron or by medidistill-nightly.service.
#
#   MEDIDISTILL_INBOX   folder of X-rays with labels.csv                      (required)
#   MEDIDISTILL_RUNS    folder that receives one run folder a night           (required)
#   MEDIDISTILL_CONFIG  YAML file or ready-made configuration                 (default: standard)
#   MEDIDISTILL         the command                                           (default: medidistill)
#
# What a night does, `medidistill nightly --help` says: it goes on with a run that was stopped, and does nothing without
# new files. Exit codes are those of medidistill.
set -eu
umask 077
# shellcheck disable=SC2086  # $MEDIDISTILL is a command line
exec ${MEDIDISTILL:-medidistill} nightly \
  --inbox "${MEDIDISTILL_INBOX:?names no folder of X-rays}" \
  --runs "${MEDIDISTILL_RUNS:?names no folder for the runs}" \
  --config "${MEDIDISTILL_CONFIG:-standard}" --quiet "$@"
