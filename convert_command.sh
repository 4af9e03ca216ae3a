#!/usr/bin/env bash
# The container's entry point: a cloud's arguments become Hydra overrides, and this shell becomes train.py.
# How an argument is read is written in src/alphard/arguments.py.
trap 'exit 143' TERM # until exec: process 1 ignores a signal that it has no handler for
root=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")
words=()
while IFS= read -r -d '' word; do words+=("$word"); done < <(
  ALPHARD_CONFIGS=$root/configs python -P -m alphard.arguments "$@"
  printf '%s\0' "$?" # a pipe loses the exit status, so it comes as the last word
)
status=${words[${#words[@]} - 1]}
[[ $status == 0 ]] || exit "$status"
overrides=("${words[@]:0:${#words[@]}-1}")
exec python "$root/train.py" "${overrides[@]}"
