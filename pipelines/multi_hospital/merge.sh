#!/bin/sh
# Where the bundles of the hospitals meet: check each and merge them into one.
#
#   merge.sh MERGED BUNDLE BUNDLE ...
set -eu
merged=${1:?"usage: merge.sh MERGED BUNDLE BUNDLE ..."}
shift
medidistill=${MEDIDISTILL:-medidistill}
for bundle in "$@"; do
  # shellcheck disable=SC2086  # $medidistill is a command line
  $medidistill verify "$bundle"
done
# shellcheck disable=SC2086
exec $medidistill merge "$@" --output "$merged"
