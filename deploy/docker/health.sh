#!/bin/sh
# l4lab-health: health check of a component's container. Status 0: ready; 1: not, and why is printed.
#
# The component keeps one line in $L4LAB_HEALTH_FILE, `ready` or what is wrong, and touches the file every two
# seconds (services/common/task/health.ts). The first check that finds it ready says so at once. Later ones
# stay for half a minute, and end at once when that changes: a container whose health is asked for every second
# until it is ready costs nothing afterwards. One that has left a question open is not ready before it has
# answered that one. Only words of the shell, and sleep.
file=${L4LAB_HEALTH_FILE:?}
told=$file.told
asked=$file.asked

fail() {
    echo no >"$told"
    echo "not ready: $1"
    exit 1
}

look() {
    if ! read -r line 2>/dev/null <"$file"; then fail 'no component runs here'; fi
    [ "$line" = ready ] || fail "$line"
    [ ! -e "$asked" ] || [ "$file" -nt "$asked" ] || fail 'it has not answered for 5 s'
}

look
read -r before 2>/dev/null <"$told"
if [ "$before" = yes ]; then
    for _ in 1 2 3 4 5 6; do
        echo >"$asked"
        sleep 5
        look
    done
fi
echo yes >"$told"
echo ready
