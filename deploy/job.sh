#!/usr/bin/env bash
# One job on a cluster: look at the config and at every image first, then run. Takes the options of `fairsynth run`.
#
#   deploy/job.sh --preset waterbirds --data.root s3://BUCKET/waterbirds --out s3://BUCKET/runs/waterbirds
#
# The looking is done on this machine alone. Where GPU nodes start on demand, what a run would refuse (exit code 2 for the
# config, 3 for the dataset) has then cost no GPU. For a dataset that is too large for one machine to read,
# FAIRSYNTH_LOOK=no leaves it out: the run's first stage looks at the images, too, with all workers.
set -euo pipefail

# inspect takes a config and settings, and none of the options that only a run has.
settings=()
skip=no
for word in "$@"; do
  if [ "$skip" = yes ]; then
    skip=no
    continue
  fi
  case $word in
    --out | --confirm-above | --price-per-hour | --max-worker-hours) skip=yes ;;
    --out=* | --confirm-above=* | --price-per-hour=* | --max-worker-hours=* | --yes | --dry-run) ;;
    *) settings+=("$word") ;;
  esac
done

if [ "${FAIRSYNTH_LOOK:-yes}" = yes ]; then
  fairsynth run "$@" --dry-run
  case ${settings[0]:-} in
    *.yaml | *.yml) ;;
    *) # A config with nothing in it, so that inspect takes the dataset that the settings name, as a run does.
      empty=$(mktemp --suffix .yaml)
      trap 'rm -f "$empty"' EXIT
      echo '{}' >"$empty"
      settings=("$empty" ${settings[@]+"${settings[@]}"})
      ;;
  esac
  # Ray sets RAY_ADDRESS for a job: without it inspect works on this machine, with its processors.
  env -u RAY_ADDRESS fairsynth inspect "${settings[@]}" --resources.workers null --resources.gpus_per_worker 0
  rm -f "${empty:-}"
fi

exec fairsynth run "$@"
