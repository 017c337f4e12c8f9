#!/bin/sh
# Where the bundles of the hospitals meet: check each and merge them into one.
#
#   merge.sh MERGED BUNDLE BUNDLE ...
#
#   MEDIDISTILL_CLASSES  mapping file, where the hospitals have different sets of classes (docs/bundle.md, Merging)
#   MEDIDISTILL_EVALUATE folder of labelled X-rays to score the merged set and each part on
#   MEDIDISTILL          the command                                                   (default: medidistill)
set -eu
merged=${1:?"usage: merge.sh MERGED BUNDLE BUNDLE ..."}
shift
medidistill=${MEDIDISTILL:-medidistill}
for bundle in "$@"; do
  # shellcheck disable=SC2086  # $medidistill is a command line
  $medidistill verify "$bundle"
done
# shellcheck disable=SC2086
exec $medidistill merge "$@" --output "$merged" ${MEDIDISTILL_CLASSES:+--classes "$MEDIDISTILL_CLASSES"} \
  ${MEDIDISTILL_EVALUATE:+--evaluate "$MEDIDISTILL_EVALUATE"}
