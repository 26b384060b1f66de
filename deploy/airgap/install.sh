#!/bin/sh
# Installs semsr from this folder: no network, no compiler, no root. Needs the Python that the archive
# was made for, with venv.
#
#   ./install.sh /opt/semsr
#   PYTHON=/path/to/python3 ./install.sh /opt/semsr
#   EXTRAS="scan tracing" ./install.sh /opt/semsr     fewer extras than the archive holds; none for none
set -eu

if [ $# -ne 1 ]; then
    echo "usage: $0 DIR" >&2
    exit 2
fi
target=$1
case $target in /*) ;; *) target=$PWD/$target ;; esac
if [ -e "$target" ]; then
    echo "$target is there already; give a folder that is not, or remove it" >&2
    exit 1
fi
cd "$(dirname "$0")"

# Damage on the way is found before anything is installed.
sha256sum --check --quiet --strict SHA256SUMS

held=$(cd requirements && ls | sed -n 's/\.txt$//p' | grep -v '^base$' | tr '\n' ' ')
extras=${EXTRAS-$held}
[ "$extras" = none ] && extras=
extras=$(echo "$extras" | tr ',' ' ')
for extra in $extras; do
    if [ "$extra" = base ] || [ ! -f "requirements/$extra.txt" ]; then
        echo "this archive does not hold the extra $extra; it holds: ${held:-none }" >&2
        echo "another one: make airgap EXTRAS=$extra, in a checkout" >&2
        exit 1
    fi
done

wanted=$(cat PYTHON)
python=${PYTHON:-python$wanted}
found=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>&1) || {
    echo "no $python here: install Python $wanted with venv, or set PYTHON to its path" >&2
    exit 1
}
if [ "$found" != "$wanted" ]; then
    echo "$python is Python $found; this archive is for $wanted" >&2
    exit 1
fi

# An installation that fails or is interrupted leaves nothing, so that it can be run again.
trap 'status=$?; [ "$status" -eq 0 ] || rm -rf "$target"' EXIT
trap 'exit 130' INT TERM
"$python" -m venv "$target"
pip() {
    "$target/bin/python" -m pip --disable-pip-version-check --no-input install --quiet \
        --no-index --no-deps "$@"
}
for lock in base $extras; do
    pip --require-hashes --find-links wheels -r "requirements/$lock.txt"
done
pip wheels/semsr-*.whl
# The wheel holds the shipped bundles; the link is a path to them that does not change with Python's.
ln -s "lib/python$wanted/site-packages/bundle_format/bundles" "$target/bundles"

echo "installed${extras:+ with the extras $extras}; to serve the shipped model:"
echo "  $target/bin/semsr serve"
