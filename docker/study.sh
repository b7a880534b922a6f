#!/bin/sh
# The service `study`: the command of that name. What drives a study joins the Ray cluster first, because a driver needs
# a node beside it: one without CPUs, out of reach of the terminal's Ctrl-C, which ends with the container.
set -eu
join() {
  export RAY_raylet_start_wait_time_s=300  # on a busy machine Ray's own 30 are too few
  setsid -w ray start --address=head:6379 --num-cpus=0 --object-store-memory=134217728 >/tmp/ray-start.log 2>&1 ||
    { cat /tmp/ray-start.log >&2; exit 1; }
}
for word in "$@"; do
  case $word in
    -*) continue ;;
    run | resume | replicate) join ;;
  esac
  break
done
exec study "$@"
