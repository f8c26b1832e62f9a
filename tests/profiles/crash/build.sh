#!/bin/sh
# build.sh OUT: makes OUT/crash.ko for the kernel of the profile `host`. Leaves OUT without it where the kernel's
# headers or a compiler are not to be had.
set -eu
out=$1
provium=${PROVIUM:-$PWD/../../../bin/provium}
release=$("$provium" image show --profile host | sed -n 's/^  kernel .*, \([^ ]*\)$/\1/p')
rm -f "$out/crash.ko"
if ko=$(../../setups/crash/build "$release"); then
	cp "$ko" "$out/crash.ko"
elif [ $? != 3 ]; then
	exit 1
fi
