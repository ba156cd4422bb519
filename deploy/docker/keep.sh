#!/bin/sh
# l4lab-keep: keeps the shared memory (/dev/shm) of its container, for the containers with
# `ipc: "service:..."`. It does nothing else, so that it never has to be started again. Its end is seen by
# those that have opened the FIFO.
set -eu
life=/dev/shm/keeper
trap 'exit 0' TERM INT
mkfifo -m 600 "$life"
exec 3<>"$life"
while :; do
    sleep 86400 &
    wait $!
done
