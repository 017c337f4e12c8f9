#!/bin/sh
# At one hospital: distill the own X-rays and check the bundle that is to leave. The X-rays stay.
#
#   site.sh INPUT OUTPUT [CONFIG]
#
# All sites must use one image size, normalisation and network; where their classes differ, merge.sh takes a mapping
# file. The bundle is OUTPUT/bundle; whether it may leave is the site's decision, and the card in it says what was
# measured.
set -eu
umask 077
input=${1:?"usage: site.sh INPUT OUTPUT [CONFIG]"}
output=${2:?"usage: site.sh INPUT OUTPUT [CONFIG]"}
config=${3:-standard}
medidistill=${MEDIDISTILL:-medidistill}

# shellcheck disable=SC2086  # $medidistill is a command line
if [ -e "$output/run.yaml" ]; then
  $medidistill run --output "$output" --resume --quiet
else
  $medidistill run --config "$config" --input "$input" --output "$output" --quiet
fi
# shellcheck disable=SC2086
$medidistill verify "$output/bundle"
# shellcheck disable=SC2086
$medidistill clean "$output"
