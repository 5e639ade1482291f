# shellcheck shell=bash
# Sourced by the scripts beside it: where things are, and how they speak.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cache=$HOME/.cache/nova-template
# What ci/setup installs: cargo-generate, EZKL's Python, and one with an EZKL of before.
tools=${NOVA_TOOLS_DIR:-$cache/tools}
# One target folder for template/ and every stamp: the dependency tree is compiled once.
export CARGO_TARGET_DIR=${NOVA_TARGET_DIR:-$cache/target}
export NOVA_PYTHON=${NOVA_PYTHON:-$tools/ezkl/bin/python}
export NOVA_OLDER_PYTHON=${NOVA_OLDER_PYTHON:-$tools/older-ezkl/bin/python}
export NOVA_ANVIL=${NOVA_ANVIL:-$root/template/devnet/contracts/node_modules/.bin/anvil}
export PYTHONDONTWRITEBYTECODE=1
# shellcheck disable=SC2034  # used by the scripts that source this
cargo_generate=$tools/bin/cargo-generate

say() { printf '\n=== %s\n' "$*" >&2; }
die() { printf '%s: %s\n' "$(basename "$0")" "$*" >&2; exit 1; }

# tidy COMMAND…: runs COMMAND; its output is shown only if it fails.
tidy() {
  local log
  log=$(mktemp)
  if "$@" >"$log" 2>&1; then
    rm "$log"
  else
    cat "$log" >&2
    rm "$log"
    die "failed: $*"
  fi
}

# checkout_files FOLDER: copies the checkout, as it lies here with all edits and without what git ignores, to FOLDER.
checkout_files() {
  git -C "$root" ls-files -z --cached --others --exclude-standard |
    while IFS= read -r -d '' file; do [ ! -e "$root/$file" ] || printf '%s\0' "$file"; done |
    tar -C "$root" --null --files-from=- -cf - | tar -C "$1" -xf -
}

# Where the projects are stamped that ci/test tries: in the same places each time, so that cargo finds what it has compiled.
stamps=${NOVA_STAMPS_DIR:-$cache/stamps}
export CI_STAMPS=$stamps

# set_aside PROJECT, before it is stamped anew, and keep_ages PROJECT after it: what is the same as before is as old as before. A
# project that is elsewhere is a user's: it stays, and the generator refuses to overwrite it.
set_aside() {
  case $1 in "$stamps"/*) ;; *) return 0 ;; esac
  rm -rf "$1.before"
  [ ! -e "$1" ] || mv "$1" "$1.before"
}
keep_ages() {
  [ -e "$1.before" ] || return 0
  (
    cd "$1" || exit
    find . -name node_modules -prune -o -path ./.git -prune -o -type f -print0 |
      while IFS= read -r -d '' file; do
        ! cmp -s "$file" "$1.before/$file" || touch -r "$1.before/$file" "$file"
      done
  )
  rm -rf "$1.before"
}
