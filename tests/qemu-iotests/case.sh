# SPDX-License-Identifier: GPL-2.0-or-later
# What the cases of this folder are written with; "run" sources it, and then the case.
#
#   img, io, nbd      the programs, with what they say in one stream and their exit status, if it is not 0
#   section WORDS     a heading in the output
#   FORMAT            the format under test; in the output it is always FORMAT
#
# The current folder is the case's own, and empty.  Nothing in the output depends on the machine: paths, times and
# rates are taken out of it.

section() {
    printf '\n== %s ==\n' "$*"
}

_said() {
    local status=0
    "$@" 2>&1 || status=$?
    [ "$status" = 0 ] || echo "(status $status)"
}

img() { _said "$IMG" "$@"; }
io() { _said "$IO" "$@"; }

# The image $1 of $2 bytes, with more options of "create"
make_image() {
    local name=$1 size=$2
    shift 2
    img create -q -f "$FORMAT" "$@" "$name" "$size"
}

# qemu-io's commands on an image of the format: each argument is one
on() {
    local name=$1 args=()
    shift
    for command in "$@"; do
        args+=(-c "$command")
    done
    io -f "$FORMAT" "${args[@]}" "$name"
}

# An image of a format that can be checked is sound: nothing is printed
check_image() {
    img check -q -f "$FORMAT" "$1" | grep -v -e 'does not support checks' -e '(status 63)'
}
